//! nf_tables messages (linux/netfilter/nf_tables.h), as far as a masquerade needs them, for a
//! [`super::netlink::Socket::netfilter`]; and [`filter`] what a packet filter does.
//!
//! Changes travel in a transaction: [`Transaction::new`], the changes, [`Transaction::commit`]. The kernel
//! applies all of them or none.

pub mod filter;

use nix::errno::Errno;

use super::netlink::{ACK, APPEND, Batch, CREATE, NetlinkError, Socket};

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

/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
/// `NFPROTO_UNSPEC`.
const UNSPECIFIED: u8 = 0;
const NESTED: u16 = 0x8000;
/// `NF_INET_POST_ROUTING`.
const HOOK_POSTROUTING: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`.
const PRIORITY_SOURCE_NAT: u32 = 100;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;

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

/// One expression of a rule.
#[derive(Debug)]
pub struct Expression(Vec<u8>);

impl Expression {
    /// The packet goes on to the next expression only when the interface's name begins so (or not so).
    pub fn interface_prefix(interface: Interface, comparison: Comparison, prefix: &str) -> [Self; 2] {
        let load = [attribute(1, &REGISTER.to_be_bytes()), attribute(2, &(interface as u32).to_be_bytes())];
        let compare = [
            attribute(1, &REGISTER.to_be_bytes()),
            attribute(2, &(comparison as u32).to_be_bytes()),
            nested(3, &[attribute(1, prefix.as_bytes())]),
        ];
        [Self::new("meta", &load), Self::new("cmp", &compare)]
    }

    /// The packet's source becomes the outgoing interface's address.
    pub fn masquerade() -> Self {
        Self::new("masq", &[])
    }

    fn new(name: &str, data: &[Vec<u8>]) -> Self {
        Self(nested(1, &[attribute(1, &text(name)), nested(2, data)]))
    }
}

/// Changes that are applied together.
#[derive(Debug)]
pub struct Transaction(Batch);

impl Transaction {
    /// No changes yet.
    pub fn new() -> Self {
        let mut batch = Batch::default();
        batch.push_raw("open an nftables transaction", BATCH_BEGIN, 0, &header(UNSPECIFIED, SUBSYSTEM));
        Self(batch)
    }

    /// Makes IPv4 table `table`.
    pub fn add_table(&mut self, table: &str) {
        self.push("make an nftables table", NEW_TABLE, CREATE, &[attribute(1, &text(table))]);
    }

    /// Deletes IPv4 table `table` with all that is in it.
    pub fn delete_table(&mut self, table: &str) {
        self.push("delete an nftables table", DELETE_TABLE, 0, &[attribute(1, &text(table))]);
    }

    /// Makes a chain that no hook runs.
    pub fn add_chain(&mut self, table: &str, chain: &str) {
        let names = [attribute(1, &text(table)), attribute(3, &text(chain))];
        self.push("make an nftables chain", NEW_CHAIN, CREATE, &names);
    }

    /// Makes a chain that rewrites sources of packets on their way out.
    pub fn add_source_nat_chain(&mut self, table: &str, chain: &str) {
        let hook =
            [attribute(1, &HOOK_POSTROUTING.to_be_bytes()), attribute(2, &PRIORITY_SOURCE_NAT.to_be_bytes())];
        let attributes = [
            attribute(1, &text(table)),
            attribute(3, &text(chain)),
            nested(4, &hook),
            attribute(7, &text("nat")),
        ];
        self.push("make an nftables NAT chain", NEW_CHAIN, CREATE, &attributes);
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, table: &str, chain: &str, expressions: impl IntoIterator<Item = Expression>) {
        let expressions: Vec<_> = expressions.into_iter().map(|expression| expression.0).collect();
        let attributes = [attribute(1, &text(table)), attribute(2, &text(chain)), nested(4, &expressions)];
        self.push("make an nftables rule", NEW_RULE, CREATE | APPEND, &attributes);
    }

    /// Applies all changes, or none.
    ///
    /// # Errors
    /// The first refused change.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        self.0.push_raw("close an nftables transaction", BATCH_END, 0, &header(UNSPECIFIED, SUBSYSTEM));
        socket.execute(&self.0)
    }

    fn push(&mut self, step: &'static str, kind: u16, flags: u16, attributes: &[Vec<u8>]) {
        let payload = [header(IPV4, 0).to_vec(), attributes.concat()].concat();
        self.0.push_raw(step, kind, flags | ACK, &payload);
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether IPv4 table `table` exists. It does not in a kernel without nf_tables.
///
/// # Errors
/// The kernel's, other than that there is none.
pub fn table_exists(socket: &mut Socket, table: &str) -> Result<bool, NetlinkError> {
    exists(socket, GET_TABLE, &[attribute(1, &text(table))])
}

/// Whether IPv4 table `table` has chain `chain`.
///
/// # Errors
/// The kernel's, other than that there is none.
pub fn chain_exists(socket: &mut Socket, table: &str, chain: &str) -> Result<bool, NetlinkError> {
    exists(socket, GET_CHAIN, &[attribute(1, &text(table)), attribute(3, &text(chain))])
}

fn exists(socket: &mut Socket, kind: u16, attributes: &[Vec<u8>]) -> Result<bool, NetlinkError> {
    let payload = [header(IPV4, 0).to_vec(), attributes.concat()].concat();
    match socket.dump("look into nftables", kind, ACK, &payload, |_, _| {}) {
        Ok(()) => Ok(true),
        // EINVAL: the kernel has no nf_tables, and no module of that name (nfnetlink_rcv_msg).
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
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
}
