use proptest::prelude::*;

use super::*;

/// Records what is emitted.
struct Wire {
    flow: Flow,
    segments: Vec<Segment>,
}

impl Wire {
    fn open(sequence: [u32; 2], room: [usize; 2]) -> Self {
        let mut segments = Vec::new();
        let flow = Flow::open(sequence, room, &mut |segment| segments.push(segment));
        Self { flow, segments }
    }

    fn established() -> Self {
        let mut wire = Self::open([100, 900], [65_536; 2]);
        wire.does(|flow, out| flow.on(&Event::Accept, out));
        wire.segments.clear();
        wire
    }

    fn does(&mut self, event: impl FnOnce(&mut Flow, &mut Vec<Segment>)) -> &mut Self {
        event(&mut self.flow, &mut self.segments);
        self
    }

    fn taken(&mut self) -> Vec<String> {
        self.segments.drain(..).map(|segment| short(&segment)).collect()
    }
}

impl Flow {
    fn on(&mut self, event: &Event, out: &mut Vec<Segment>) {
        let emit = &mut |segment| out.push(segment);
        match event {
            Event::Accept => self.accept(emit),
            Event::Refuse => self.refuse(emit),
            Event::Data(side, bytes, room) => self.data(*side, Bytes::from(bytes.clone()), *room, emit),
            Event::Lost(side, bytes) => self.lost(*side, Bytes::from(bytes.clone()), emit),
            Event::Finish(side) => self.finish(*side, emit),
            Event::Reset(side) => self.reset(*side, emit),
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Accept,
    Refuse,
    Data(Side, Vec<u8>, usize),
    Lost(Side, Vec<u8>),
    Finish(Side),
    Reset(Side),
}

/// `C SA 100 ack 200 win 3 len 4`.
fn short(segment: &Segment) -> String {
    let Segment { from, sequence, ack, flags, window, payload } = segment;
    let from = if *from == Side::Client { 'C' } else { 'S' };
    let mut letters = String::new();
    let set = [(flags.syn, 'S'), (flags.psh, 'P'), (flags.fin, 'F'), (flags.rst, 'R'), (ack.is_some(), '.')];
    letters.extend(set.iter().filter(|(set, _)| *set).map(|(_, letter)| letter));
    let ack = ack.map(|ack| format!(" ack {ack}")).unwrap_or_default();
    format!("{from} {letters} {sequence}{ack} win {window} len {}", payload.len())
}

#[test]
fn a_connection_from_syn_to_the_last_ack() {
    let mut wire = Wire::open([100, 900], [65_536, 131_072]);
    let on = |wire: &mut Wire, event: Event| wire.does(|flow, out| flow.on(&event, out)).taken();
    assert_eq!(wire.taken(), ["C S 100 win 65535 len 0"]);
    assert_eq!(
        on(&mut wire, Event::Accept),
        ["S S. 900 ack 101 win 65535 len 0", "C . 101 ack 901 win 512 len 0"]
    );
    assert_eq!(
        on(&mut wire, Event::Data(Side::Client, b"hello".to_vec(), 131_067)),
        ["C P. 101 ack 901 win 512 len 5", "S . 901 ack 106 win 1023 len 0"]
    );
    assert_eq!(
        on(&mut wire, Event::Finish(Side::Client)),
        ["C F. 106 ack 901 win 512 len 0", "S . 901 ack 107 win 1023 len 0"]
    );
    assert_eq!(
        on(&mut wire, Event::Data(Side::Server, b"bye".to_vec(), 65_533)),
        ["S P. 901 ack 107 win 1023 len 3", "C . 107 ack 904 win 511 len 0"]
    );
    assert_eq!(
        on(&mut wire, Event::Finish(Side::Server)),
        ["S F. 904 ack 107 win 1023 len 0", "C . 107 ack 905 win 511 len 0"]
    );
    assert!(on(&mut wire, Event::Data(Side::Client, b"x".to_vec(), 1)).is_empty(), "after its end");
    assert!(on(&mut wire, Event::Finish(Side::Client)).is_empty(), "twice");
}

#[test]
fn a_refusal_answers_the_syn() {
    let mut wire = Wire::open([100, 900], [65_536; 2]);
    wire.taken();
    assert_eq!(wire.does(|flow, out| flow.on(&Event::Refuse, out)).taken(), ["S R. 0 ack 101 win 0 len 0"]);
    for event in [Event::Accept, Event::Refuse, Event::Finish(Side::Client), Event::Reset(Side::Server)] {
        assert!(wire.does(|flow, out| flow.on(&event, out)).taken().is_empty(), "{event:?}");
    }
}

#[test]
fn what_is_written_to_a_closed_end_is_answered_by_rst() {
    let mut wire = Wire::established();
    let lost = Event::Lost(Side::Client, b"abc".to_vec());
    assert_eq!(
        wire.does(|flow, out| flow.on(&lost, out)).taken(),
        ["C P. 101 ack 901 win 512 len 3", "S R. 901 ack 104 win 0 len 0"]
    );
    assert!(wire.does(|flow, out| flow.on(&lost, out)).taken().is_empty());
}

#[test]
fn a_client_that_gives_up_says_nothing_more() {
    let mut wire = Wire::open([100, 900], [65_536; 2]);
    wire.taken();
    for event in [Event::Finish(Side::Client), Event::Reset(Side::Client), Event::Lost(Side::Client, vec![1])]
    {
        assert!(wire.does(|flow, out| flow.on(&event, out)).taken().is_empty(), "{event:?}");
    }
}

#[test]
fn a_peer_that_has_read_says_so_before_more_is_sent_than_it_had_room_for() {
    let mut wire = Wire::established();
    let data = |n, room| Event::Data(Side::Client, vec![0; n], room);
    assert_eq!(
        wire.does(|flow, out| flow.on(&data(65_536, 0), out)).taken(),
        [
            "C . 101 ack 901 win 512 len 65495",
            "C P. 65596 ack 901 win 512 len 41",
            "S . 901 ack 65637 win 0 len 0"
        ]
    );
    assert_eq!(
        wire.does(|flow, out| flow.on(&data(10, 1014), out)).taken(),
        [
            "S . 901 ack 65637 win 8 len 0",
            "C P. 65637 ack 901 win 512 len 10",
            "S . 901 ack 65647 win 7 len 0"
        ]
    );
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = || {
        prop_oneof![
            9 => proptest::collection::vec(any::<u8>(), 0..20),
            1 => (0..200_000usize).prop_map(|n| (0..n).map(|i| i as u8).collect()),
        ]
    };
    prop_oneof![
        3 => Just(Event::Accept),
        1 => Just(Event::Refuse),
        9 => (side(), bytes(), 0..300_000usize).prop_map(|(side, bytes, room)| Event::Data(side, bytes, room)),
        1 => (side(), bytes()).prop_map(|(side, bytes)| Event::Lost(side, bytes)),
        2 => side().prop_map(Event::Finish),
        1 => side().prop_map(Event::Reset),
    ]
}

proptest! {
    /// Whatever happens, in whatever order: what a receiver would put together is what was written.
    #[test]
    fn streams_are_whole_and_in_order(
        sequence in any::<[u32; 2]>(),
        room in [0..300_000usize, 0..300_000usize],
        mut events in proptest::collection::vec(event(), 0..60),
    ) {
        events.insert(0, Event::Accept);
        let mut wire = Wire::open(sequence, room);
        let mut written = [Vec::new(), Vec::new()];
        let mut finished = [false; 2];
        let mut over = false;
        for event in &events {
            match event {
                Event::Data(side, bytes, _) | Event::Lost(side, bytes) if !over && !finished[*side as usize] => {
                    written[*side as usize].extend_from_slice(bytes);
                }
                Event::Finish(side) if !over => finished[*side as usize] = true,
                _ => {}
            }
            over |= matches!(event, Event::Lost(..) | Event::Reset(_));
            wire.does(|flow, out| flow.on(event, out));
        }
        let mut next = sequence;
        let mut announced = [u32::MAX; 2];
        let mut read = [Vec::new(), Vec::new()];
        let mut ended = [false; 2];
        let mut reset = false;
        for segment in &wire.segments {
            let (from, to) = (segment.from as usize, segment.from.peer() as usize);
            prop_assert!(!reset, "after RST: {segment:?}");
            prop_assert_eq!(segment.sequence, next[from], "a gap or an overlap: {:?}", segment);
            prop_assert!(segment.payload.len() <= MAX_SEGMENT);
            if let Some(ack) = segment.ack {
                prop_assert_eq!(ack, next[to], "acknowledges what was sent: {:?}", segment);
            }
            let Flags { syn, fin, rst, .. } = segment.flags;
            prop_assert!(!ended[from] || (segment.payload.is_empty() && !fin && !syn), "after FIN: {segment:?}");
            if !segment.payload.is_empty() && !reset_follows(&wire.segments, segment) {
                prop_assert!(segment.payload.len() as u32 <= announced[to], "more than there was room for");
                announced[to] -= segment.payload.len() as u32;
            }
            if !syn && !rst {
                announced[from] = u32::from(segment.window) << WINDOW_SHIFT;
            }
            let length = segment.payload.len() as u32 + u32::from(syn) + u32::from(fin);
            next[from] = next[from].wrapping_add(length);
            read[from].extend_from_slice(&segment.payload);
            ended[from] |= fin;
            reset |= rst;
        }
        prop_assert_eq!(&read[0], &written[0]);
        prop_assert_eq!(&read[1], &written[1]);
        prop_assert_eq!(reset, over);
        prop_assert_eq!(ended, finished);
    }
}

/// Whether a segment is part of what nobody takes: the last data before an RST may be more than there was room for.
fn reset_follows(segments: &[Segment], segment: &Segment) -> bool {
    let after = segments.iter().skip_while(|other| *other != segment).skip(1);
    let mut rest = after.skip_while(|other| other.from == segment.from && !other.payload.is_empty());
    rest.next().is_some_and(|next| next.flags.rst)
}
