//! nf_tables messages (linux/netfilter/nf_tables.h), as far as address translation needs them, for a
//! [`super::netlink::Socket::netfilter`]. All tables are of the family `inet`, which is IPv4 and IPv6.
//!
//! Changes travel in a transaction: [`Transaction::new`], the changes, [`Transaction::commit`]. The kernel
//! applies all of them or none.

mod expression;
pub mod filter;

pub use expression::{Comparison, Expression, Family, Field, Interface, Register};

use nix::errno::Errno;

use super::netlink::{ACK, APPEND, Batch, CREATE, DUMP, EXCLUSIVE, NetlinkError, Socket, attributes};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const GET_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
/// `NFPROTO_UNSPEC`.
const UNSPECIFIED: u8 = 0;
const NESTED: u16 = 0x8000;
/// Length of `struct nfgenmsg`, bytes.
const HEADER: usize = 4;
/// `NFT_SET_MAP`.
const SET_IS_MAP: u32 = 8;
/// The type of a comment among an element's user data (libnftnl/udata.h), which nft(8) shows.
const COMMENT: u8 = 0;

/// Where packets meet a chain, and in which order with other chains there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Those that arrive, before connections are tracked (`NF_IP_PRI_RAW`): may be dropped.
    PreroutingRaw,
    /// Those that arrive: destinations may be rewritten.
    Prerouting,
    /// Those that this host sends: destinations may be rewritten.
    Output,
    /// Those that leave: sources may be rewritten.
    Postrouting,
}

impl Hook {
    /// Hook number (`enum nf_inet_hooks`), priority (`enum nf_ip_hook_priorities`), type of chain.
    fn numbers(self) -> (u32, i32, &'static str) {
        match self {
            Self::PreroutingRaw => (0, -300, "filter"),
            Self::Prerouting => (0, -100, "nat"),
            Self::Output => (3, -100, "nat"),
            Self::Postrouting => (4, 100, "nat"),
        }
    }
}

/// What a set's keys, or a map's values, consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An IPv4 address.
    Ipv4Address,
    /// An IPv6 address.
    Ipv6Address,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
}

impl Type {
    /// nft(8)'s number of it, with which it shows elements.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }

    /// Bytes, padded to a register's.
    fn length(self) -> u32 {
        if self == Self::Ipv6Address { 16 } else { 4 }
    }

    fn number_of_all(types: &[Self]) -> u32 {
        types.iter().fold(0, |number, one| number << 6 | one.number())
    }

    fn length_of_all(types: &[Self]) -> u32 {
        types.iter().map(|one| one.length()).sum()
    }
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key: each part padded to 4 bytes, in network byte order.
    pub key: Vec<u8>,
    /// What a map has for it.
    pub value: Option<Vec<u8>>,
    /// Whose it is: at most 250 bytes.
    pub comment: String,
}

/// Changes that are applied together.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
    /// How many sets it makes: a set's number in its transaction.
    sets: u32,
}

impl Transaction {
    /// No changes yet.
    pub fn new() -> Self {
        let mut batch = Batch::default();
        batch.push_raw("open an nftables transaction", BATCH_BEGIN, 0, &header(UNSPECIFIED, SUBSYSTEM));
        Self { batch, sets: 0 }
    }

    /// Makes table `table`.
    pub fn add_table(&mut self, table: &str) {
        self.push("make an nftables table", NEW_TABLE, CREATE, &[attribute(1, &text(table))]);
    }

    /// Deletes table `table` with all that is in it.
    pub fn delete_table(&mut self, table: &str) {
        self.push("delete an nftables table", DELETE_TABLE, 0, &[attribute(1, &text(table))]);
    }

    /// Makes a chain that no hook runs.
    pub fn add_chain(&mut self, table: &str, chain: &str) {
        let names = [attribute(1, &text(table)), attribute(3, &text(chain))];
        self.push("make an nftables chain", NEW_CHAIN, CREATE, &names);
    }

    /// Makes a chain that packets meet at a hook.
    pub fn add_base_chain(&mut self, table: &str, chain: &str, hook: Hook) {
        let (hook, priority, kind) = hook.numbers();
        let hook = [attribute(1, &hook.to_be_bytes()), attribute(2, &priority.to_be_bytes())];
        let attributes = [
            attribute(1, &text(table)),
            attribute(3, &text(chain)),
            nested(4, &hook),
            attribute(7, &text(kind)),
        ];
        self.push("make an nftables chain", NEW_CHAIN, CREATE, &attributes);
    }

    /// Makes a set, or with `value` a map.
    pub fn add_set(&mut self, table: &str, set: &str, key: &[Type], value: &[Type]) {
        self.sets += 1;
        let mut attributes = vec![
            attribute(1, &text(table)),
            attribute(2, &text(set)),
            attribute(4, &Type::number_of_all(key).to_be_bytes()),
            attribute(5, &Type::length_of_all(key).to_be_bytes()),
            attribute(10, &self.sets.to_be_bytes()),
        ];
        if !value.is_empty() {
            attributes.extend([
                attribute(3, &SET_IS_MAP.to_be_bytes()),
                attribute(6, &Type::number_of_all(value).to_be_bytes()),
                attribute(7, &Type::length_of_all(value).to_be_bytes()),
            ]);
        }
        self.push("make an nftables set", NEW_SET, CREATE, &attributes);
    }

    /// Adds elements to a set or map.
    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements("add to an nftables set", NEW_ELEMENTS, CREATE | EXCLUSIVE, table, set, elements);
    }

    /// Deletes elements, which have to be there.
    pub fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements("delete from an nftables set", DELETE_ELEMENTS, 0, table, set, elements);
    }

    fn elements(
        &mut self,
        step: &'static str,
        kind: u16,
        flags: u16,
        table: &str,
        set: &str,
        elements: &[Element],
    ) {
        // One message each: an attribute's length has 16 bits.
        for element in elements {
            let element = nested(1, &element.attributes());
            let attributes = [attribute(1, &text(table)), attribute(2, &text(set)), nested(3, &[element])];
            self.push(step, kind, flags, &attributes);
        }
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, table: &str, chain: &str, expressions: impl IntoIterator<Item = Expression>) {
        let expressions: Vec<_> = expressions.into_iter().map(Expression::into_bytes).collect();
        let attributes = [attribute(1, &text(table)), attribute(2, &text(chain)), nested(4, &expressions)];
        self.push("make an nftables rule", NEW_RULE, CREATE | APPEND, &attributes);
    }

    /// Applies all changes, or none.
    ///
    /// # Errors
    /// The first refused change.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        self.batch.push_raw("close an nftables transaction", BATCH_END, 0, &header(UNSPECIFIED, SUBSYSTEM));
        socket.execute(&self.batch)
    }

    fn push(&mut self, step: &'static str, kind: u16, flags: u16, attributes: &[Vec<u8>]) {
        let payload = [header(INET, 0).to_vec(), attributes.concat()].concat();
        self.batch.push_raw(step, kind, flags | ACK, &payload);
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new()
    }
}

impl Element {
    fn attributes(&self) -> Vec<Vec<u8>> {
        let data = |value: &[u8]| [attribute(1, value)];
        let mut attributes = vec![nested(1, &data(&self.key))];
        attributes.extend(self.value.as_ref().map(|value| nested(2, &data(value))));
        let comment = text(&self.comment);
        attributes.push(attribute(6, &[&[COMMENT, comment.len() as u8], &comment[..]].concat()));
        attributes
    }

    fn parse(element: &[u8]) -> Option<Self> {
        let (mut key, mut value, mut comment) = (None, None, String::new());
        let data = |nested| attributes(nested, 0).find(|(kind, _)| *kind == 1).map(|(_, data)| data.to_vec());
        for (kind, content) in attributes(element, 0) {
            match (kind, content) {
                (1, content) => key = data(content),
                (2, content) => value = data(content),
                (6, [COMMENT, _, content @ ..]) => comment = string(content).unwrap_or_default(),
                _ => {}
            }
        }
        Some(Self { key: key?, value, comment })
    }
}

/// The elements of a set or map; none when there is no such set.
///
/// # Errors
/// The kernel's.
pub fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<Element>, NetlinkError> {
    let mut found = Vec::new();
    let names = [attribute(1, &text(table)), attribute(2, &text(set))];
    let request = [header(INET, 0).to_vec(), names.concat()].concat();
    let dumped = socket.dump("look into an nftables set", GET_ELEMENTS, DUMP, &request, |_, payload| {
        let lists = attributes(payload, HEADER).filter(|(kind, _)| *kind == 3);
        let each = lists.flat_map(|(_, list)| attributes(list, 0));
        found.extend(each.filter_map(|(_, element)| Element::parse(element)));
    });
    is_there(dumped)?;
    Ok(found)
}

/// Whether table `table` exists. It does not in a kernel without nf_tables.
///
/// # Errors
/// The kernel's, other than that there is none.
pub fn table_exists(socket: &mut Socket, table: &str) -> Result<bool, NetlinkError> {
    exists(socket, GET_TABLE, &[attribute(1, &text(table))])
}

/// The chains of table `table`; none when there is no such table.
///
/// # Errors
/// The kernel's.
pub fn chains(socket: &mut Socket, table: &str) -> Result<Vec<String>, NetlinkError> {
    let mut chains = Vec::new();
    let dumped = socket.dump("look into nftables", GET_CHAIN, DUMP, &header(INET, 0), |_, payload| {
        let [mut of, mut name] = [None, None];
        for (kind, value) in attributes(payload, HEADER) {
            match kind {
                1 => of = string(value),
                3 => name = string(value),
                _ => {}
            }
        }
        if of.as_deref() == Some(table) {
            chains.extend(name);
        }
    });
    is_there(dumped)?;
    Ok(chains)
}

fn exists(socket: &mut Socket, kind: u16, attributes: &[Vec<u8>]) -> Result<bool, NetlinkError> {
    let payload = [header(INET, 0).to_vec(), attributes.concat()].concat();
    is_there(socket.dump("look into nftables", kind, ACK, &payload, |_, _| {}))
}

/// Whether what was asked for is there.
fn is_there(answer: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
    match answer {
        Ok(()) => Ok(true),
        // EINVAL: the kernel has no nf_tables, and no module of that name (nfnetlink_rcv_msg).
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; HEADER] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn string(value: &[u8]) -> Option<String> {
    String::from_utf8(value.strip_suffix(&[0])?.to_vec()).ok()
}

/// One attribute, padded. Its value fits: names and a few numbers.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_count_the_padding() {
        assert_eq!(attribute(3, b"ab"), [6, 0, 3, 0, b'a', b'b', 0, 0]);
        assert_eq!(nested(4, &[attribute(3, b"ab")]), [12, 0, 4, 0x80, 6, 0, 3, 0, b'a', b'b', 0, 0]);
    }

    #[test]
    fn elements_survive_the_way() {
        let element = Element { key: vec![1; 12], value: Some(vec![2; 8]), comment: "pea0123".into() };
        assert_eq!(Element::parse(&element.attributes().concat()), Some(element));
        assert_eq!(Element::parse(&[]), None);
        assert_eq!(Type::number_of_all(&[Type::Ipv4Address, Type::Port]), 7 << 6 | 13);
    }
}
