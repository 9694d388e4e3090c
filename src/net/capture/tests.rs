use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::sync::mpsc;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::super::memory::{Data, Side};
use super::super::meter::{Count, Meter, Plane};
use super::queue::QUEUE_BYTES;
use super::*;

/// One packet as it was read back; checksums are right when there is one.
#[derive(Debug)]
pub(crate) struct Read1 {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// Sequence number and `SFRPA` where it is TCP.
    pub(crate) tcp: Option<(u32, String)>,
    pub(crate) payload: Vec<u8>,
}

/// Reads a capture file as tcpdump does; panics where it is not one.
pub(crate) fn parse(file: &[u8]) -> Vec<Read1> {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((number(0), number(4), number(20)), (0xa1b2_3c4d, 0x0004_0002, 101));
    let mut packets = Vec::new();
    let mut at = 24;
    let mut last = (0, 0);
    while at < file.len() {
        let time = (number(at), number(at + 4));
        assert!(time >= last && time.1 < 1_000_000_000, "{last:?} before {time:?}");
        last = time;
        let (captured, length) = (number(at + 8), number(at + 12));
        assert_eq!(captured, length);
        let packet = &file[at + 16..at + 16 + length as usize];
        packets.push(parse_packet(packet));
        at += 16 + length as usize;
    }
    packets
}

fn parse_packet(bytes: &[u8]) -> Read1 {
    let packet = SlicedPacket::from_ip(bytes).unwrap();
    let (source, destination): (std::net::IpAddr, std::net::IpAddr) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), bytes.len());
            (header.source.into(), header.destination.into())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.payload_length) + 40, bytes.len());
            (header.source.into(), header.destination.into())
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let (header, payload) = (tcp.to_header(), tcp.payload());
            let checksum = match (source, destination) {
                (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
                    header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), payload)
                }
                (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                    header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), payload)
                }
                _ => panic!("two families"),
            };
            assert_eq!(header.checksum, checksum.unwrap());
            let flags = [
                (header.syn, 'S'),
                (header.fin, 'F'),
                (header.rst, 'R'),
                (header.psh, 'P'),
                (header.ack, 'A'),
            ];
            Read1 {
                source: SocketAddr::new(source, header.source_port),
                destination: SocketAddr::new(destination, header.destination_port),
                tcp: Some((
                    header.sequence_number,
                    flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect(),
                )),
                payload: payload.to_vec(),
            }
        }
        TransportSlice::Udp(udp) => {
            let (header, payload) = (udp.to_header(), udp.payload());
            let checksum = match (source, destination) {
                (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
                    header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), payload)
                }
                (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                    header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), payload)
                }
                _ => panic!("two families"),
            };
            assert_eq!(header.checksum, checksum.unwrap());
            Read1 {
                source: SocketAddr::new(source, header.source_port),
                destination: SocketAddr::new(destination, header.destination_port),
                tcp: None,
                payload: payload.to_vec(),
            }
        }
        other => panic!("{other:?}"),
    }
}

/// The bytes of each direction, by (source, destination); panics at a gap.
pub(crate) fn reassemble(packets: &[Read1]) -> BTreeMap<(SocketAddr, SocketAddr), Vec<u8>> {
    let mut streams = BTreeMap::new();
    for packet in packets {
        let Some((sequence, flags)) = &packet.tcp else { continue };
        let key = (packet.source, packet.destination);
        if flags.contains('S') {
            streams.insert(key, (sequence.wrapping_add(1), Vec::new()));
        }
        if packet.payload.is_empty() {
            continue;
        }
        let (next, bytes): &mut (u32, Vec<u8>) = streams.get_mut(&key).expect("SYN first");
        assert_eq!(next, sequence, "a gap");
        *next = next.wrapping_add(packet.payload.len() as u32);
        bytes.extend_from_slice(&packet.payload);
    }
    streams.into_iter().map(|(key, (_, bytes))| (key, bytes)).collect()
}

fn recorded(record: impl FnOnce(&Capture)) -> (Vec<Read1>, Summary) {
    let mut file = tempfile::tempfile().unwrap();
    let recording = Recording::start(file.try_clone().unwrap()).unwrap();
    record(&recording.capture());
    let summary = recording.finish().expect("the writer is done");
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (parse(&bytes), summary)
}

fn meters() -> [Arc<Meter>; 2] {
    ["client", "server"].map(|name| Arc::new(Meter::new(name)))
}

fn write(tap: &mut Tap, side: Side, data: &[u8], room: usize) {
    assert!(tap.is_recording());
    tap.wrote(side, Kept::of(&Data::Slice(data)).first(data.len()), room);
}

#[test]
fn what_was_recorded_is_read_back() {
    for ip in ["127.0.0.1", "::1"] {
        let address = |port| SocketAddr::new(ip.parse().unwrap(), port);
        let (client, server) = (address(50_000), address(80));
        let big: Vec<u8> = (0..150_000_u32).flat_map(u32::to_be_bytes).collect();
        let (packets, summary) = recorded(|capture| {
            let mut tap = Tap::open(meters(), Some(capture), [client, server], [1 << 20; 2]);
            tap.admitted();
            write(&mut tap, Side::Client, b"request", 1 << 20);
            write(&mut tap, Side::Server, &big, 7);
            tap.finished(Side::Client);
            tap.finished(Side::Server);
            capture.datagram(client, server, Bytes::from_static(b"datagram"));
            capture.datagram(client, server, Bytes::new());
            capture.datagram(client, server, Bytes::from(vec![7; 65_507]));
        });
        assert_eq!((summary.dropped, summary.error.is_none()), (0, true));
        assert_eq!(summary.written, packets.len() as u64);
        let streams = reassemble(&packets);
        assert_eq!(streams[&(client, server)], b"request");
        assert_eq!(streams[&(server, client)], big);
        let datagrams: Vec<_> =
            packets.iter().filter(|packet| packet.tcp.is_none()).map(|packet| packet.payload.len()).collect();
        assert_eq!(datagrams, [8, 0, 65_507]);
        let flags: Vec<_> = packets.iter().filter_map(|p| Some(p.tcp.as_ref()?.1.as_str())).collect();
        assert_eq!(flags[..3], ["S", "SA", "A"]);
        assert_eq!(flags[flags.len() - 4..], ["FA", "A", "FA", "A"]);
    }
}

#[test]
fn what_no_packet_can_carry_is_left_out() {
    let (v4, v6) = ("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
    let (packets, _) = recorded(|capture| {
        capture.datagram(v4, v4, Bytes::from(vec![0; 65_508]));
        capture.datagram(v4, v6, Bytes::new());
        capture.datagram(v6, v6, Bytes::from(vec![0; 65_536]));
        capture.datagram(v6, v6, Bytes::from(vec![0; 65_527]));
    });
    assert_eq!(packets.len(), 1);
}

#[test]
fn resets_are_counted_once_with_and_without_a_capture() {
    let addresses = ["127.0.0.1:50000".parse().unwrap(), "127.0.0.1:80".parse().unwrap()];
    let count = |capture: Option<&Capture>| {
        let meters = meters();
        let mut tap = Tap::open(meters.clone(), capture, addresses, [100; 2]);
        tap.admitted();
        tap.reset(Side::Client);
        tap.reset(Side::Server);
        let [client, server] = meters.map(|meter| meter.read().planes[Plane::Memory as usize].tcp);
        assert_eq!((client.resets_received, client.resets_sent), (1, 0));
        assert_eq!((server.resets_received, server.resets_sent), (0, 1));
    };
    count(None);
    let (packets, _) = recorded(|capture| count(Some(capture)));
    assert_eq!(packets.last().unwrap().tcp.as_ref().unwrap().1, "RA");
    // The counters' names exist for all that is counted.
    let meter = Meter::new("x");
    meter.count(Plane::Memory, Count::TcpRefused);
}

#[test]
fn a_reader_that_does_not_read_costs_packets_and_no_time() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let recording = Recording::start(std::os::fd::OwnedFd::from(writer).into()).unwrap();
    let capture = recording.capture();
    let addresses = ["127.0.0.1:50000".parse().unwrap(), "127.0.0.1:80".parse().unwrap()];
    let mut tap = Tap::open(meters(), Some(&capture), addresses, [1 << 20; 2]);
    tap.admitted();
    let data = vec![0; 65_000];
    let sent = 4 * QUEUE_BYTES / data.len();
    for _ in 0..sent {
        write(&mut tap, Side::Client, &data, 1 << 20);
    }
    let (tell, told) = mpsc::channel();
    let finish = std::thread::spawn(move || tell.send(recording.finish()).unwrap());
    let mut file = Vec::new();
    reader.read_to_end(&mut file).unwrap();
    finish.join().unwrap();
    let summary = told.recv().unwrap().unwrap();
    let packets = parse(&file);
    assert_eq!(summary.written, packets.len() as u64);
    assert!(summary.dropped > 0);
    // SYN, SYN-ACK, ACK, then data and ACK.
    assert_eq!(summary.written + summary.dropped, 3 + 2 * sent as u64);
    assert!(file.len() < 3 * QUEUE_BYTES, "{}", file.len());
}

#[test]
fn a_reader_that_goes_away_ends_the_capture_and_nothing_else() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let recording = Recording::start(std::os::fd::OwnedFd::from(writer).into()).unwrap();
    let address = "127.0.0.1:80".parse().unwrap();
    recording.capture().datagram(address, address, Bytes::new());
    let summary = recording.finish().unwrap();
    assert_eq!((summary.written, summary.dropped), (0, 1));
    assert_eq!(summary.error.unwrap().kind(), std::io::ErrorKind::BrokenPipe);
}
