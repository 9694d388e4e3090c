//! What rules consist of: expressions that load a packet's fields into registers, compare and act.

use super::{attribute, nested, text};

/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NFT_REG32_00`.
const FIRST_REGISTER: u32 = 8;
/// `NF_DROP`.
const DROP: i32 = 0;
/// `NFT_JUMP`.
const JUMP: i32 = -3;
/// `NFT_META_NFPROTO`.
const META_FAMILY: u32 = 15;
/// `NFT_META_L4PROTO`.
const META_PROTOCOL: u32 = 16;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;

/// A register of 4 bytes, from 0 to 15. Longer values take the ones that follow, too.
#[derive(Debug, Clone, Copy)]
pub struct Register(pub u32);

impl Register {
    fn attribute(self, kind: u16) -> Vec<u8> {
        attribute(kind, &(FIRST_REGISTER + self.0).to_be_bytes())
    }
}

/// The interface that a rule looks at.
#[derive(Debug, Clone, Copy)]
pub enum Interface {
    /// The one by which the packet came in (`NFT_META_IIFNAME`; in postrouting since Linux 5.7).
    In = 6,
    /// The one by which it goes out (`NFT_META_OIFNAME`).
    Out = 7,
}

/// How a rule compares.
#[derive(Debug, Clone, Copy)]
pub enum Comparison {
    /// `NFT_CMP_EQ`.
    Equal = 0,
    /// `NFT_CMP_NEQ`.
    NotEqual = 1,
}

/// A packet's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `NFPROTO_IPV4`.
    V4 = 2,
    /// `NFPROTO_IPV6`.
    V6 = 10,
}

/// A field of a packet that has been found to be of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Where it comes from.
    Source(Family),
    /// The first byte of that.
    SourceFirstByte(Family),
    /// Where it goes.
    Destination(Family),
    /// The first byte of that.
    DestinationFirstByte(Family),
    /// The port that it goes to.
    DestinationPort,
}

impl Field {
    /// Header (`enum nft_payload_bases`), offset and length, bytes.
    fn place(self) -> (u32, u32, u32) {
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        match self {
            Self::Source(Family::V4) => (NETWORK, 12, 4),
            Self::Source(Family::V6) => (NETWORK, 8, 16),
            Self::SourceFirstByte(Family::V4) => (NETWORK, 12, 1),
            Self::SourceFirstByte(Family::V6) => (NETWORK, 8, 1),
            Self::Destination(Family::V4) => (NETWORK, 16, 4),
            Self::Destination(Family::V6) => (NETWORK, 24, 16),
            Self::DestinationFirstByte(Family::V4) => (NETWORK, 16, 1),
            Self::DestinationFirstByte(Family::V6) => (NETWORK, 24, 1),
            Self::DestinationPort => (TRANSPORT, 2, 2),
        }
    }
}

/// One expression of a rule. Those that compare end the rule when what they say does not hold.
#[derive(Debug)]
pub struct Expression(Vec<u8>);

impl Expression {
    /// The interface's name begins so (or not so). Uses the first register.
    pub fn interface_prefix(interface: Interface, comparison: Comparison, prefix: &str) -> [Self; 2] {
        let register = Register(0);
        [Self::meta(interface as u32, register), Self::compare(register, comparison, prefix.as_bytes())]
    }

    /// The packet is of this family. Uses the first register.
    pub fn is_of(family: Family) -> [Self; 2] {
        let register = Register(0);
        [Self::meta(META_FAMILY, register), Self::compare(register, Comparison::Equal, &[family as u8])]
    }

    /// The packet goes to an address of this host. Uses the first register. Needs the module nft_fib_inet.
    pub fn is_to_this_host() -> [Self; 2] {
        let register = Register(0);
        // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR.
        let data =
            [register.attribute(1), attribute(2, &3u32.to_be_bytes()), attribute(3, &2u32.to_be_bytes())];
        [Self::new("fib", &data), Self::compare(register, Comparison::Equal, &LOCAL.to_ne_bytes())]
    }

    /// Loads a field.
    pub fn load(field: Field, register: Register) -> Self {
        let (base, offset, length) = field.place();
        let numbers = [base, offset, length].map(u32::to_be_bytes);
        let [base, offset, length] = &numbers;
        Self::new(
            "payload",
            &[register.attribute(1), attribute(2, base), attribute(3, offset), attribute(4, length)],
        )
    }

    /// Loads the number of the transport protocol.
    pub fn load_protocol(register: Register) -> Self {
        Self::meta(META_PROTOCOL, register)
    }

    /// Makes zeros of this many bytes: of an address, the unspecified one.
    pub fn clear(register: Register, length: u32) -> Self {
        let zeros = [attribute(1, &vec![0; length as usize])];
        let data = [
            register.attribute(1),
            register.attribute(2),
            attribute(3, &length.to_be_bytes()),
            nested(4, &zeros),
            nested(5, &zeros),
        ];
        Self::new("bitwise", &data)
    }

    /// What begins at a register is (or is not) this.
    pub fn compare(register: Register, comparison: Comparison, value: &[u8]) -> Self {
        let comparison = (comparison as u32).to_be_bytes();
        let value = nested(3, &[attribute(1, value)]);
        Self::new("cmp", &[register.attribute(1), attribute(2, &comparison), value])
    }

    /// The set has what begins at `key`; a map's value for it goes to `value`.
    pub fn look_up(set: &str, key: Register, value: Option<Register>) -> Self {
        let mut data = vec![attribute(1, &text(set)), key.attribute(2)];
        data.extend(value.map(|register| register.attribute(3)));
        Self::new("lookup", &data)
    }

    /// The packet's source becomes the outgoing interface's address.
    pub fn masquerade() -> Self {
        Self::new("masq", &[])
    }

    /// The packet's destination becomes the address and port in these registers.
    pub fn destination_nat(family: Family, address: Register, port: Register) -> Self {
        // NFT_NAT_DNAT.
        let kind = attribute(1, &1u32.to_be_bytes());
        let family = attribute(2, &(family as u32).to_be_bytes());
        Self::new("nat", &[kind, family, address.attribute(3), port.attribute(5)])
    }

    /// The packet vanishes.
    pub fn drop() -> Self {
        Self::verdict(&[attribute(1, &DROP.to_be_bytes())])
    }

    /// The rules of another chain are next.
    pub fn jump(chain: &str) -> Self {
        Self::verdict(&[attribute(1, &JUMP.to_be_bytes()), attribute(2, &text(chain))])
    }

    fn meta(key: u32, register: Register) -> Self {
        Self::new("meta", &[register.attribute(1), attribute(2, &key.to_be_bytes())])
    }

    fn verdict(data: &[Vec<u8>]) -> Self {
        let register = attribute(1, &VERDICT.to_be_bytes());
        Self::new("immediate", &[register, nested(2, &[nested(2, data)])])
    }

    fn new(name: &str, data: &[Vec<u8>]) -> Self {
        Self(nested(1, &[attribute(1, &text(name)), nested(2, data)]))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
