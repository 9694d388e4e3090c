//! What a packet filter needs: the inet family (IPv4 and IPv6), sets of addresses, and expressions that match.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::sys::socket::{setsockopt, sockopt};

use super::{
    BATCH_BEGIN, BATCH_END, NEW_CHAIN, NEW_RULE, NEW_TABLE, SUBSYSTEM, UNSPECIFIED, attribute, header,
    nested, text,
};
use crate::sys::netlink::{ACK, APPEND, Batch, CREATE, NetlinkError, Socket, attributes};

const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_SET_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const DELETE_SET_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;
const GET_OBJECT: u16 = SUBSYSTEM << 8 | 19;
/// `NFT_OBJECT_COUNTER`.
const COUNTER: u32 = 1;

/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFT_REG_1`: every value that is loaded is compared at once, so one register is enough.
const REGISTER: u32 = 1;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`, as `meta nfproto` says them.
const PROTOCOL_IPV4: u8 = 2;
const PROTOCOL_IPV6: u8 = 10;
/// `NFT_META_IIF`, `NFT_META_OIF`, `NFT_META_NFPROTO`, `NFT_META_L4PROTO`.
const META_IN: u32 = 4;
const META_OUT: u32 = 5;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `NFT_CT_STATE`, and its bits `established` and `related`.
const CT_STATE: u32 = 0;
const CT_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_CMP_LTE`, `NFT_CMP_GTE`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
/// `NFT_REJECT_TCP_RST`.
const REJECT_WITH_RESET: u32 = 1;
/// `LOOPBACK_IFINDEX`: of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;
/// The types that nft(8) uses for sets of addresses: only for showing them.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;

/// Elements in one message: an attribute's length is 16 bits, and one takes up to 28 bytes.
const ELEMENTS_A_MESSAGE: usize = 1000;

/// `NF_INET_LOCAL_IN`, `NF_INET_LOCAL_OUT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What comes in to this network namespace.
    Input = 1,
    /// What goes out of it.
    Output = 3,
}

/// IPv4 or IPv6, of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// Of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
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
    /// `NFT_JUMP` to another chain.
    Jump(&'a str),
}

/// One expression of a rule. Those that say something about a packet end the rule when it does not hold.
#[derive(Debug)]
pub struct Expression(Vec<u8>);

impl Expression {
    /// A connection that is known already, or what belongs to one.
    pub fn is_established() -> [Self; 3] {
        let load = Self::new("ct", &[number(1, REGISTER), number(2, CT_STATE)]);
        let bits = CT_ESTABLISHED_OR_RELATED.to_ne_bytes();
        [load, Self::mask(&bits), Self::compare(NOT_EQUAL, &[0; 4])]
    }

    /// A packet on the loopback interface.
    pub fn is_loopback(hook: Hook) -> [Self; 2] {
        let key = match hook {
            Hook::Input => META_IN,
            Hook::Output => META_OUT,
        };
        [Self::meta(key), Self::compare(EQUAL, &LOOPBACK.to_ne_bytes())]
    }

    /// A packet of a transport protocol (`IPPROTO_…`).
    pub fn is_protocol(protocol: u8) -> [Self; 2] {
        [Self::meta(META_L4PROTO), Self::compare(EQUAL, &[protocol])]
    }

    /// After [`Self::is_protocol`] of ICMPv6: of a type between these.
    pub fn icmpv6_type_between(first: u8, last: u8) -> Vec<Self> {
        Self::between(Self::payload(TRANSPORT_HEADER, 0, 1), &[first], &[last])
    }

    /// After [`Self::is_protocol`] of TCP or UDP: to a port between these.
    pub fn destination_port_between(first: u16, last: u16) -> Vec<Self> {
        Self::between(Self::payload(TRANSPORT_HEADER, 2, 2), &first.to_be_bytes(), &last.to_be_bytes())
    }

    /// One end is in a network.
    pub fn is_in(end: End, net: IpNet) -> [Self; 5] {
        let (address, mask) = (octets(net.network()), octets(net.netmask()));
        let [protocol, is_protocol, load] = Self::address(end, AddressFamily::of(net.network()));
        [protocol, is_protocol, load, Self::mask(&mask), Self::compare(EQUAL, &address)]
    }

    /// One end is in a set of addresses of this family.
    pub fn is_in_set(end: End, family: AddressFamily, set: &str) -> [Self; 4] {
        let [protocol, is_protocol, load] = Self::address(end, family);
        let lookup = Self::new("lookup", &[attribute(1, &text(set)), number(2, REGISTER)]);
        [protocol, is_protocol, load, lookup]
    }

    /// Counts in a counter of the table what matched so far.
    pub fn count(counter: &str) -> Self {
        Self::new("objref", &[number(1, COUNTER), attribute(2, &text(counter))])
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
        let code = attribute(1, &code.to_be_bytes());
        let verdict: Vec<_> =
            [code].into_iter().chain(chain.map(|chain| attribute(2, &text(chain)))).collect();
        Self::new("immediate", &[number(1, VERDICT_REGISTER), nested(2, &[nested(2, &verdict)])])
    }

    /// Loads an address, of packets of its family only.
    fn address(end: End, family: AddressFamily) -> [Self; 3] {
        let (protocol, offset, length) = match (family, end) {
            (AddressFamily::V4, End::Source) => (PROTOCOL_IPV4, 12, 4),
            (AddressFamily::V4, End::Destination) => (PROTOCOL_IPV4, 16, 4),
            (AddressFamily::V6, End::Source) => (PROTOCOL_IPV6, 8, 16),
            (AddressFamily::V6, End::Destination) => (PROTOCOL_IPV6, 24, 16),
        };
        [
            Self::meta(META_NFPROTO),
            Self::compare(EQUAL, &[protocol]),
            Self::payload(NETWORK_HEADER, offset, length),
        ]
    }

    fn new(name: &str, data: &[Vec<u8>]) -> Self {
        Self(nested(1, &[attribute(1, &text(name)), nested(2, data)]))
    }

    fn meta(key: u32) -> Self {
        Self::new("meta", &[number(1, REGISTER), number(2, key)])
    }

    fn payload(base: u32, offset: u32, length: u32) -> Self {
        Self::new("payload", &[number(1, REGISTER), number(2, base), number(3, offset), number(4, length)])
    }

    fn mask(mask: &[u8]) -> Self {
        let none = vec![0; mask.len()];
        Self::new(
            "bitwise",
            &[
                number(1, REGISTER),
                number(2, REGISTER),
                number(3, mask.len() as u32),
                nested(4, &[attribute(1, mask)]),
                nested(5, &[attribute(1, &none)]),
            ],
        )
    }

    fn between(load: Self, first: &[u8], last: &[u8]) -> Vec<Self> {
        if first == last {
            return vec![load, Self::compare(EQUAL, first)];
        }
        vec![load, Self::compare(AT_LEAST, first), Self::compare(AT_MOST, last)]
    }

    fn compare(how: u32, value: &[u8]) -> Self {
        Self::new("cmp", &[number(1, REGISTER), number(2, how), nested(3, &[attribute(1, value)])])
    }
}

/// Changes of one table of the inet family, applied together. Only the last is acknowledged: a long transaction would
/// overflow the socket with good news. Errors always come.
#[derive(Debug)]
pub struct Filter<'a> {
    table: &'a str,
    batch: Batch,
    sets: u32,
}

impl<'a> Filter<'a> {
    /// No changes yet.
    pub fn new(table: &'a str) -> Self {
        let mut batch = Batch::default();
        batch.push_raw("open an nftables transaction", BATCH_BEGIN, 0, &header(UNSPECIFIED, SUBSYSTEM));
        Self { table, batch, sets: 0 }
    }

    /// Makes the table.
    pub fn add_table(&mut self) {
        self.push("make an nftables table", NEW_TABLE, CREATE, &[]);
    }

    /// Makes a chain that other chains jump to.
    pub fn add_chain(&mut self, chain: &str) {
        self.push("make an nftables chain", NEW_CHAIN, CREATE, &[attribute(3, &text(chain))]);
    }

    /// Makes a chain that all packets of a hook go through.
    pub fn add_filter_chain(&mut self, chain: &str, hook: Hook) {
        // Priority 0 is `filter`.
        let hook = [number(1, hook as u32), number(2, 0)];
        let attributes = [attribute(3, &text(chain)), nested(4, &hook), attribute(7, &text("filter"))];
        self.push("make an nftables filter chain", NEW_CHAIN, CREATE, &attributes);
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, chain: &str, expressions: impl IntoIterator<Item = Expression>) {
        let expressions: Vec<_> = expressions.into_iter().map(|expression| expression.0).collect();
        let attributes = [attribute(2, &text(chain)), nested(4, &expressions)];
        self.push("make an nftables rule", NEW_RULE, CREATE | APPEND, &attributes);
    }

    /// Makes an empty set of addresses.
    pub fn add_set(&mut self, set: &str, family: AddressFamily) {
        self.sets += 1;
        let (kind, length) = match family {
            AddressFamily::V4 => (TYPE_IPV4, 4),
            AddressFamily::V6 => (TYPE_IPV6, 16),
        };
        let attributes =
            [attribute(2, &text(set)), number(4, kind), number(5, length), number(10, self.sets)];
        self.push("make an nftables set", NEW_SET, CREATE, &attributes);
    }

    /// Adds addresses of the set's family to it.
    pub fn add_elements(&mut self, set: &str, addresses: &[IpAddr]) {
        for some in addresses.chunks(ELEMENTS_A_MESSAGE) {
            let element = |ip: &IpAddr| nested(1, &[nested(1, &[attribute(1, &octets(*ip))])]);
            let elements: Vec<_> = some.iter().map(element).collect();
            let attributes = [attribute(2, &text(set)), nested(3, &elements)];
            self.push("fill an nftables set", NEW_SET_ELEMENT, CREATE, &attributes);
        }
    }

    /// Makes a counter.
    pub fn add_counter(&mut self, counter: &str) {
        // From 0.
        let attributes = [attribute(2, &text(counter)), number(3, COUNTER), nested(4, &[])];
        self.push("make an nftables counter", NEW_OBJECT, CREATE, &attributes);
    }

    /// Takes everything out of a set.
    pub fn empty_set(&mut self, set: &str) {
        self.push("empty an nftables set", DELETE_SET_ELEMENT, 0, &[attribute(2, &text(set))]);
    }

    /// Applies all changes, or none.
    ///
    /// # Errors
    /// The first refused change.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        // Something harmless to acknowledge: the table is there.
        self.push("find the nftables table again", NEW_TABLE, ACK, &[]);
        let mut batch = self.batch;
        batch.push_raw("close an nftables transaction", BATCH_END, 0, &header(UNSPECIFIED, SUBSYSTEM));
        // The kernel takes a transaction in one message only, and counts its own overhead with it. Without the
        // privilege the default stays, and a transaction that is too long fails.
        let _ = setsockopt(&*socket, sockopt::SndBufForce, &(2 * batch.len() + SEND_OVERHEAD));
        socket.execute(&batch)
    }

    fn push(&mut self, step: &'static str, kind: u16, flags: u16, attributes: &[Vec<u8>]) {
        let table = attribute(1, &text(self.table));
        let payload = [&header(INET, 0)[..], &table, &attributes.concat()].concat();
        self.batch.push_raw(step, kind, flags, &payload);
    }
}

/// How many packets a counter of table `table` has counted.
///
/// # Errors
/// The kernel's: there may be no such counter.
pub fn packets(socket: &mut Socket, table: &str, counter: &str) -> Result<u64, NetlinkError> {
    let names = [attribute(1, &text(table)), attribute(2, &text(counter)), number(3, COUNTER)];
    let request = [&header(INET, 0)[..], &names.concat()].concat();
    let mut packets = 0;
    socket.dump("read an nftables counter", GET_OBJECT, ACK, &request, |_, payload| {
        let data = attributes(payload, header(INET, 0).len()).filter(|(kind, _)| *kind == 4);
        let count = data.flat_map(|(_, data)| attributes(data, 0)).find(|(kind, _)| *kind == 2);
        let count = count.and_then(|(_, count)| count.first_chunk());
        packets += count.map_or(0, |count| u64::from_be_bytes(*count));
    })?;
    Ok(packets)
}

/// What the kernel needs of a send buffer beyond the message, bytes: generous.
const SEND_OVERHEAD: usize = 64 * 1024;

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
