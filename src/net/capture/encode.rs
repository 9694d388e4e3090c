//! The classic pcap format, with packets that begin with their IP header. Pure.
//!
//! The file is what draft-ietf-opsawg-pcap calls the "Classic PCAP file format", with times in nanoseconds;
//! all its numbers are little-endian, which the magic tells.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, TcpOptionElement, UdpHeader};

use super::flow::{MAX_SEGMENT, Segment, WINDOW_SHIFT};

/// Magic (nanoseconds), version 2.4, two reserved fields, the longest packet (what tcpdump takes), LINKTYPE_RAW.
pub(super) const FILE_HEADER: [u8; 24] = {
    let [a, b, c, d] = 0xa1b2_3c4d_u32.to_le_bytes();
    let [e, f, g, h] = 262_144_u32.to_le_bytes();
    let [i, j, k, l] = 101_u32.to_le_bytes();
    [a, b, c, d, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, e, f, g, h, i, j, k, l]
};

/// What a packet is said to have passed: as the kernel has it on loopback.
const HOP_LIMIT: u8 = 64;

/// A packet without its headers.
#[derive(Debug)]
pub(super) struct Packet {
    /// Since 1970.
    pub(super) at: Duration,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) body: Body,
    pub(super) payload: Bytes,
}

/// The transport header's contents besides the ports.
#[derive(Debug)]
pub(super) enum Body {
    Tcp(TcpFields),
    Udp,
}

/// The fields of a TCP header that differ from segment to segment.
#[derive(Debug)]
pub(super) struct TcpFields {
    sequence: u32,
    ack: Option<u32>,
    flags: super::flow::Flags,
    window: u16,
}

impl From<Segment> for TcpFields {
    fn from(segment: Segment) -> Self {
        let Segment { sequence, ack, flags, window, .. } = segment;
        Self { sequence, ack, flags, window }
    }
}

/// Appends the packet's record. One that no IP packet can carry (there is none on the memory plane) is left out.
pub(super) fn record(packet: &Packet, out: &mut Vec<u8>) {
    let start = out.len();
    let seconds = packet.at.as_secs() as u32;
    out.extend_from_slice(&seconds.to_le_bytes());
    out.extend_from_slice(&packet.at.subsec_nanos().to_le_bytes());
    // The lengths, once they are known.
    out.extend_from_slice(&[0; 8]);
    let body = out.len();
    if ip_packet(packet, out).is_none() {
        out.truncate(start);
        return;
    }
    let length = ((out.len() - body) as u32).to_le_bytes();
    out[body - 8..body - 4].copy_from_slice(&length);
    out[body - 4..body].copy_from_slice(&length);
}

fn ip_packet(packet: &Packet, out: &mut Vec<u8>) -> Option<()> {
    let (source, destination) = (packet.source.ip(), packet.destination.ip());
    match &packet.body {
        Body::Tcp(fields) => {
            let mut header = tcp_header(packet, fields)?;
            header.checksum = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => header
                    .calc_checksum_ipv4_raw(source.octets(), destination.octets(), &packet.payload)
                    .ok()?,
                (IpAddr::V6(source), IpAddr::V6(destination)) => header
                    .calc_checksum_ipv6_raw(source.octets(), destination.octets(), &packet.payload)
                    .ok()?,
                _ => return None,
            };
            ip_header(packet, IpNumber::TCP, header.header_len(), out)?;
            header.write(out).ok()?;
        }
        Body::Udp => {
            let (from, to) = (packet.source.port(), packet.destination.port());
            let payload = &packet.payload;
            let header = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    let addresses = (source.octets(), destination.octets());
                    let ip = Ipv4Header::new(0, HOP_LIMIT, IpNumber::UDP, addresses.0, addresses.1).ok()?;
                    UdpHeader::with_ipv4_checksum(from, to, &ip, payload).ok()?
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    let ip = ipv6_header(source.octets(), destination.octets(), 0, IpNumber::UDP);
                    UdpHeader::with_ipv6_checksum(from, to, &ip, payload).ok()?
                }
                _ => return None,
            };
            ip_header(packet, IpNumber::UDP, UdpHeader::LEN, out)?;
            header.write(out).ok()?;
        }
    }
    out.extend_from_slice(&packet.payload);
    Some(())
}

fn ip_header(packet: &Packet, protocol: IpNumber, transport: usize, out: &mut Vec<u8>) -> Option<()> {
    let length = u16::try_from(transport + packet.payload.len()).ok()?;
    match (packet.source.ip(), packet.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            Ipv4Header::new(length, HOP_LIMIT, protocol, source, destination).ok()?.write(out).ok()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6_header(source.octets(), destination.octets(), length, protocol).write(out).ok()
        }
        _ => None,
    }
}

fn ipv6_header(source: [u8; 16], destination: [u8; 16], length: u16, protocol: IpNumber) -> Ipv6Header {
    Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: length,
        next_header: protocol,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    }
}

fn tcp_header(packet: &Packet, fields: &TcpFields) -> Option<TcpHeader> {
    let (from, to) = (packet.source.port(), packet.destination.port());
    let mut header = TcpHeader::new(from, to, fields.sequence, fields.window);
    header.ack = fields.ack.is_some();
    header.acknowledgment_number = fields.ack.unwrap_or(0);
    header.syn = fields.flags.syn;
    header.psh = fields.flags.psh;
    header.fin = fields.flags.fin;
    header.rst = fields.flags.rst;
    if header.syn {
        let size = TcpOptionElement::MaximumSegmentSize(MAX_SEGMENT as u16);
        header.set_options(&[size, TcpOptionElement::WindowScale(WINDOW_SHIFT)]).ok()?;
    }
    Some(header)
}
