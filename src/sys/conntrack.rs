//! Connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h), for a
//! [`super::netlink::Socket::netfilter`].
//!
//! Where a flow's packets go is decided once, with its first. Datagrams of a client that does not pause have no end, so
//! that a changed rule would never reach them: their flow has to be forgotten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;

use super::netlink::{Batch, DUMP, NetlinkError, Socket, attributes, nested};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
/// Length of `struct nfgenmsg`, bytes.
const HEADER: usize = 4;
/// `CTA_TUPLE_ORIG`.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`.
const REPLY: u16 = 2;

/// A flow, as its first packet began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The transport protocol's number.
    pub protocol: u8,
    /// Where the client sends.
    pub destination: IpAddr,
    /// To which port there.
    pub port: u16,
    /// Who gets that, and answers.
    pub answered_by: IpAddr,
}

/// Forgets the flows that are meant; the next packet of each is its first again. Without connection tracking there is
/// nothing to forget.
///
/// # Errors
/// The kernel's.
pub fn forget(socket: &mut Socket, is_meant: impl Fn(&Flow) -> bool) -> Result<(), NetlinkError> {
    let mut batch = Batch::default();
    let dumped = socket.dump("look at connections", GET, DUMP, &[0; HEADER], |_, payload| {
        if let Some((flow, original)) = parse(payload)
            && is_meant(&flow)
        {
            // Its family, and which one.
            let request = [&[payload[0], 0, 0, 0], &nested(ORIGINAL, &[original.to_vec()])[..]].concat();
            batch.push_raw("forget a connection", DELETE, 0, &request);
        }
    });
    match dumped {
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => return Ok(()),
        result => result?,
    }
    batch.acknowledge_last();
    match socket.execute(&batch) {
        // It has ended meanwhile.
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// The flow of a message, and the attribute that identifies it.
fn parse(payload: &[u8]) -> Option<(Flow, &[u8])> {
    let tuple =
        |wanted| attributes(payload, HEADER).find(|(kind, _)| *kind == wanted).map(|(_, tuple)| tuple);
    let original = tuple(ORIGINAL)?;
    let (_, destination, protocol, port) = ends(original)?;
    let (answered_by, ..) = ends(tuple(REPLY)?)?;
    Some((Flow { protocol, destination, port, answered_by }, original))
}

/// Source, destination, protocol, destination's port (0 where there are none) of `CTA_TUPLE_ORIG` or `_REPLY`.
fn ends(tuple: &[u8]) -> Option<(IpAddr, IpAddr, u8, u16)> {
    let part = |wanted| attributes(tuple, 0).find(|(kind, _)| *kind == wanted).map(|(_, part)| part);
    let (mut source, mut destination) = (None, None);
    // CTA_TUPLE_IP: CTA_IP_V4_SRC, _DST, CTA_IP_V6_SRC, _DST.
    for (kind, value) in attributes(part(1)?, 0) {
        match kind {
            1 | 3 => source = address(value),
            2 | 4 => destination = address(value),
            _ => {}
        }
    }
    let (mut protocol, mut port) = (None, 0);
    // CTA_TUPLE_PROTO: CTA_PROTO_NUM, CTA_PROTO_DST_PORT.
    for (kind, value) in attributes(part(2)?, 0) {
        match (kind, value) {
            (1, [number, ..]) => protocol = Some(*number),
            (3, &[high, low, ..]) => port = u16::from_be_bytes([high, low]),
            _ => {}
        }
    }
    Some((source?, destination?, protocol?, port))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::attribute;

    fn tuple(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
        let ip = [attribute(1, &source), attribute(2, &destination)].concat();
        let ports = [attribute(1, &[17]), attribute(3, &port.to_be_bytes())].concat();
        [nested(1, &[ip]), nested(2, &[ports])].concat()
    }

    #[test]
    fn a_flow_is_where_it_goes_and_who_answers() {
        let original = tuple([192, 0, 2, 9], [192, 0, 2, 1], 53);
        let reply = tuple([10, 201, 0, 2], [192, 0, 2, 9], 4242);
        let message =
            [vec![2, 0, 0, 0], nested(ORIGINAL, std::slice::from_ref(&original)), nested(REPLY, &[reply])];
        let expected = Flow {
            protocol: 17,
            destination: "192.0.2.1".parse().unwrap(),
            port: 53,
            answered_by: "10.201.0.2".parse().unwrap(),
        };
        let message = message.concat();
        assert_eq!(parse(&message), Some((expected, &original[..])));
        for length in 0..message.len() - 4 {
            assert_eq!(parse(&message[..length]), None, "{length}");
        }
    }
}
