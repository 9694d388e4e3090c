//! nf_tables messages (linux/netfilter/nf_tables.h), as far as address translation and packet filters need them, for a
//! [`super::netlink::Socket::netfilter`]. All tables are of the family `inet`, which is IPv4 and IPv6.
//!
//! ```text
//! Expression… ─► a rule ─┐
//! Type, Element ─► a set ┴─► Transaction ─► commit: the kernel applies all of it or nothing
//! the kernel ─► table_exists, chains, elements, packets
//! ```

mod expression;
mod set;
mod transaction;

pub use expression::{Comparison, End, Expression, Field, Interface, Register, Verdict};
pub use set::{Element, Type, octets};
pub use transaction::{Hook, Transaction};

use std::net::IpAddr;

use nix::errno::Errno;

use super::netlink::{ACK, DUMP, NetlinkError, Socket, attribute, attributes};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
const GET_OBJECT: u16 = SUBSYSTEM << 8 | 19;

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
/// `NFT_OBJECT_COUNTER`.
const COUNTER: u32 = 1;
/// Length of `struct nfgenmsg`, bytes.
const HEADER: usize = 4;

/// IPv4 or IPv6, as `meta nfproto` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `NFPROTO_IPV4`.
    V4 = 2,
    /// `NFPROTO_IPV6`.
    V6 = 10,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The elements of a set or map; none when there is no such set.
///
/// # Errors
/// The kernel's.
pub fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<Element>, NetlinkError> {
    let mut found = Vec::new();
    let names = [attribute(1, &text(table)), attribute(2, &text(set))];
    let dumped =
        socket.dump("look into an nftables set", GET_ELEMENTS, DUMP, &message(&names), |_, payload| {
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
    let name = message(&[attribute(1, &text(table))]);
    is_there(socket.dump("look into nftables", GET_TABLE, ACK, &name, |_, _| {}))
}

/// The chains of table `table`; none when there is no such table.
///
/// # Errors
/// The kernel's.
pub fn chains(socket: &mut Socket, table: &str) -> Result<Vec<String>, NetlinkError> {
    let mut chains = Vec::new();
    let dumped = socket.dump("look into nftables", GET_CHAIN, DUMP, &message(&[]), |_, payload| {
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

/// How many packets a counter of table `table` has counted.
///
/// # Errors
/// The kernel's: there may be no such counter.
pub fn packets(socket: &mut Socket, table: &str, counter: &str) -> Result<u64, NetlinkError> {
    let names = [attribute(1, &text(table)), attribute(2, &text(counter)), number(3, COUNTER)];
    let mut packets = 0;
    socket.dump("read an nftables counter", GET_OBJECT, ACK, &message(&names), |_, payload| {
        let data = attributes(payload, HEADER).filter(|(kind, _)| *kind == 4);
        let count = data.flat_map(|(_, data)| attributes(data, 0)).find(|(kind, _)| *kind == 2);
        let count = count.and_then(|(_, count)| count.first_chunk());
        packets += count.map_or(0, |count| u64::from_be_bytes(*count));
    })?;
    Ok(packets)
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

/// `struct nfgenmsg` of the family `inet`, and attributes.
fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
    [&header(INET, 0)[..], &attributes.concat()].concat()
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

/// All numbers are in network byte order.
fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}
