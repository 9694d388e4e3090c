//! What rules consist of: expressions that load a packet's fields into registers, compare and act.

use ipnet::IpNet;

use super::set::octets;
use super::{COUNTER, Family, number, text};
use crate::sys::netlink::{attribute, nested};

/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
/// `NFT_REG32_00`.
const FIRST_REGISTER: u32 = 8;
/// `NFT_META_NFPROTO`.
const META_FAMILY: u32 = 15;
/// `NFT_META_L4PROTO`.
const META_PROTOCOL: u32 = 16;
/// `LOOPBACK_IFINDEX`: of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;
/// `NFT_CT_STATE`, and its bits `established` and `related`.
const CT_STATE: u32 = 0;
const CT_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `NFT_FIB_RESULT_ADDRTYPE`, of the destination (`NFTA_FIB_F_DADDR`).
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;
/// `NFT_NAT_DNAT`.
const DESTINATION_NAT: u32 = 1;
/// `NFT_REJECT_TCP_RST`.
const REJECT_WITH_RESET: u32 = 1;

/// A register of 4 bytes, from 0 to 15. Longer values take the ones that follow, too.
#[derive(Debug, Clone, Copy)]
pub struct Register(pub u32);

impl Register {
    /// The one that everything here uses which names none.
    const FIRST: Self = Self(0);

    fn attribute(self, kind: u16) -> Vec<u8> {
        number(kind, FIRST_REGISTER + self.0)
    }
}

/// The interface that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// The one by which the packet came in; in postrouting known since Linux 5.7.
    In,
    /// The one by which it goes out.
    Out,
}

impl Interface {
    /// `NFT_META_IIF`, `NFT_META_OIF`.
    fn index(self) -> u32 {
        match self {
            Self::In => 4,
            Self::Out => 5,
        }
    }

    /// `NFT_META_IIFNAME`, `NFT_META_OIFNAME`.
    fn name(self) -> u32 {
        match self {
            Self::In => 6,
            Self::Out => 7,
        }
    }
}

/// How a rule compares (`enum nft_cmp_ops`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `NFT_CMP_EQ`.
    Equal = 0,
    /// `NFT_CMP_NEQ`.
    NotEqual = 1,
    /// `NFT_CMP_LTE`.
    AtMost = 3,
    /// `NFT_CMP_GTE`.
    AtLeast = 5,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
}

/// A field of a packet that has been found to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Of a packet of the family.
    Address(End, Family),
    /// The port that a packet of TCP or UDP goes to.
    DestinationPort,
    /// Of a packet of ICMPv6.
    Icmpv6Type,
}

impl Field {
    /// Header (`enum nft_payload_bases`), offset and length, bytes.
    fn place(self) -> (u32, u32, u32) {
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        match self {
            Self::Address(End::Source, Family::V4) => (NETWORK, 12, 4),
            Self::Address(End::Source, Family::V6) => (NETWORK, 8, 16),
            Self::Address(End::Destination, Family::V4) => (NETWORK, 16, 4),
            Self::Address(End::Destination, Family::V6) => (NETWORK, 24, 16),
            Self::DestinationPort => (TRANSPORT, 2, 2),
            Self::Icmpv6Type => (TRANSPORT, 0, 1),
        }
    }
}

/// What a rule does with a packet that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// `NF_ACCEPT`.
    Accept,
    /// `NF_DROP`.
    Drop,
    /// `NFT_RETURN`: on with the rule after the jump.
    Return,
    /// `NFT_JUMP`: the rules of another chain are next.
    Jump(&'a str),
}

/// One expression of a rule. Those that say something about a packet (`is_…`) end the rule when it does not hold; they
/// use the registers from the first one.
#[derive(Debug)]
pub struct Expression(Vec<u8>);

/// What a packet is.
impl Expression {
    /// The interface's name begins so (or not so).
    pub fn is_on_interface(interface: Interface, comparison: Comparison, prefix: &str) -> [Self; 2] {
        [
            Self::meta(interface.name(), Register::FIRST),
            Self::compare(Register::FIRST, comparison, prefix.as_bytes()),
        ]
    }

    /// A packet on the loopback interface.
    pub fn is_on_loopback(interface: Interface) -> [Self; 2] {
        [Self::meta(interface.index(), Register::FIRST), Self::equals(&LOOPBACK.to_ne_bytes())]
    }

    /// A packet of a connection that is known already, or what belongs to one.
    pub fn is_established() -> [Self; 3] {
        [
            Self::new("ct", &[Register::FIRST.attribute(1), number(2, CT_STATE)]),
            Self::mask(Register::FIRST, &CT_ESTABLISHED_OR_RELATED.to_ne_bytes()),
            Self::compare(Register::FIRST, Comparison::NotEqual, &[0; 4]),
        ]
    }

    /// A packet of this family.
    pub fn is_of(family: Family) -> [Self; 2] {
        [Self::meta(META_FAMILY, Register::FIRST), Self::equals(&[family as u8])]
    }

    /// A packet of a transport protocol (`IPPROTO_…`).
    pub fn is_protocol(protocol: u8) -> [Self; 2] {
        [Self::load_protocol(Register::FIRST), Self::equals(&[protocol])]
    }

    /// A packet to an address of this host. Needs the module nft_fib_inet.
    pub fn is_to_this_host() -> [Self; 2] {
        let data = [Register::FIRST.attribute(1), number(2, FIB_ADDRESS_TYPE), number(3, FIB_DESTINATION)];
        [Self::new("fib", &data), Self::equals(&LOCAL.to_ne_bytes())]
    }

    /// One end is in a network.
    pub fn is_in(end: End, net: IpNet) -> [Self; 5] {
        let family = Family::of(net.network());
        let [load_family, is_family] = Self::is_of(family);
        [
            load_family,
            is_family,
            Self::load(Field::Address(end, family), Register::FIRST),
            Self::mask(Register::FIRST, &octets(net.netmask())),
            Self::equals(&octets(net.network())),
        ]
    }

    /// One end is in a set of addresses of this family.
    pub fn is_in_set(end: End, family: Family, set: &str) -> [Self; 4] {
        let [load_family, is_family] = Self::is_of(family);
        let load = Self::load(Field::Address(end, family), Register::FIRST);
        [load_family, is_family, load, Self::look_up(set, Register::FIRST, None)]
    }

    /// A field is between these, in network byte order.
    pub fn is_between(field: Field, first: &[u8], last: &[u8]) -> Vec<Self> {
        let load = Self::load(field, Register::FIRST);
        if first == last {
            return vec![load, Self::equals(first)];
        }
        let bound = |comparison, value| Self::compare(Register::FIRST, comparison, value);
        vec![load, bound(Comparison::AtLeast, first), bound(Comparison::AtMost, last)]
    }

    fn equals(value: &[u8]) -> Self {
        Self::compare(Register::FIRST, Comparison::Equal, value)
    }
}

/// What registers hold.
impl Expression {
    /// Loads a field.
    pub fn load(field: Field, register: Register) -> Self {
        let (base, offset, length) = field.place();
        Self::new("payload", &[register.attribute(1), number(2, base), number(3, offset), number(4, length)])
    }

    /// Loads the number of the transport protocol.
    pub fn load_protocol(register: Register) -> Self {
        Self::meta(META_PROTOCOL, register)
    }

    /// Clears the bits of what begins at a register that are not in the mask.
    pub fn mask(register: Register, mask: &[u8]) -> Self {
        let data = [
            register.attribute(1),
            register.attribute(2),
            number(3, mask.len() as u32),
            nested(4, &[attribute(1, mask)]),
            nested(5, &[attribute(1, &vec![0; mask.len()])]),
        ];
        Self::new("bitwise", &data)
    }

    /// What begins at a register compares so with this; otherwise the rule ends.
    pub fn compare(register: Register, comparison: Comparison, value: &[u8]) -> Self {
        let value = nested(3, &[attribute(1, value)]);
        Self::new("cmp", &[register.attribute(1), number(2, comparison as u32), value])
    }

    /// The set has what begins at `key`, otherwise the rule ends; a map's value for it goes to `value`.
    pub fn look_up(set: &str, key: Register, value: Option<Register>) -> Self {
        let mut data = vec![attribute(1, &text(set)), key.attribute(2)];
        data.extend(value.map(|register| register.attribute(3)));
        Self::new("lookup", &data)
    }

    fn meta(key: u32, register: Register) -> Self {
        Self::new("meta", &[register.attribute(1), number(2, key)])
    }
}

/// What becomes of the packet.
impl Expression {
    /// Counts in a counter of the table what matched so far.
    pub fn count(counter: &str) -> Self {
        Self::new("objref", &[number(1, COUNTER), attribute(2, &text(counter))])
    }

    /// The packet's source becomes the outgoing interface's address.
    pub fn masquerade() -> Self {
        Self::new("masq", &[])
    }

    /// The packet's destination becomes the address and port in these registers.
    pub fn destination_nat(family: Family, address: Register, port: Register) -> Self {
        let kind = number(1, DESTINATION_NAT);
        Self::new("nat", &[kind, number(2, family as u32), address.attribute(3), port.attribute(5)])
    }

    /// Refuses a TCP connection with a reset.
    pub fn reset() -> Self {
        Self::new("reject", &[number(1, REJECT_WITH_RESET), attribute(2, &[0])])
    }

    /// Decides.
    pub fn verdict(verdict: Verdict<'_>) -> Self {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3i32, Some(chain)),
            Verdict::Return => (-5, None),
        };
        let mut data = vec![attribute(1, &code.to_be_bytes())];
        data.extend(chain.map(|chain| attribute(2, &text(chain))));
        Self::new("immediate", &[number(1, VERDICT_REGISTER), nested(2, &[nested(2, &data)])])
    }

    fn new(name: &str, data: &[Vec<u8>]) -> Self {
        Self(nested(1, &[attribute(1, &text(name)), nested(2, data)]))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
