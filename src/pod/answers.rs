//! What the pod process answers when its supervisor asks.
//!
//! ```text
//! Ask ─► [waiting questions] ─► next: one part at a time, when the supervisor has read the one before
//! ```
//!
//! A part is small and made when it is wanted: a pod of 10,000 connections answers in many, between which
//! its containers run, and a supervisor that does not read costs it one part.

use std::collections::VecDeque;

use super::control::{Part, Question, Report};
use super::timeline::Timeline;
use crate::api::types::DeniedPackets;
use crate::ipc::Ipc;
use crate::net::{Stack, Walk};

/// Sockets that are looked at for a part: at most some 20 KiB of text.
const PAGE: usize = 64;

/// The most sockets in an answer: the supervisor and the client hold all of them, at most 500 bytes each.
pub const MAX_SOCKETS: usize = 65_536;

/// Questions that may wait; the supervisor asks fewer.
const MAX_WAITING: usize = 64;

/// The questions that have not been answered in full.
#[derive(Default)]
pub(super) struct Answers {
    waiting: VecDeque<Answer>,
}

enum Answer {
    Network(Network),
    /// It is known already.
    Known {
        id: u64,
        part: Part,
    },
}

struct Network {
    id: u64,
    walk: Walk,
    /// Sockets told.
    told: usize,
    denied_packets: DeniedPackets,
}

impl Answers {
    /// Takes a question. One that finds no place is not answered.
    pub(super) fn ask(&mut self, id: u64, question: Question, stack: &Stack, timeline: &Timeline, ipc: &Ipc) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(match question {
                Question::Network => {
                    let (ingress, egress) = stack.denied_packets();
                    let denied_packets = DeniedPackets { ingress, egress };
                    Answer::Network(Network { id, walk: stack.observe(), told: 0, denied_packets })
                }
                Question::Timeline => Answer::Known { id, part: Part::Timeline(timeline.told()) },
                Question::Ipc => {
                    let objects = ipc.list().into_iter().map(Into::into).collect();
                    Answer::Known { id, part: Part::Ipc(objects) }
                }
                Question::RemoveIpc { kind, name } => {
                    let removed = ipc.remove(kind.into(), &name);
                    let why = removed.err().map(|error| format!("cannot remove {name}: {error}"));
                    Answer::Known { id, part: Part::IpcRemoved(why) }
                }
            });
        }
    }

    /// The next part of the first answer.
    pub(super) fn next(&mut self) -> Option<Report> {
        let mut answer = match self.waiting.pop_front()? {
            Answer::Known { id, part } => return Some(Report::Answer { id, part }),
            Answer::Network(answer) => answer,
        };
        let id = answer.id;
        if answer.told < MAX_SOCKETS
            && let Some(page) = answer.walk.next_page(PAGE.min(MAX_SOCKETS - answer.told))
        {
            answer.told += page.len();
            let sockets = page.into_iter().map(Into::into).collect();
            self.waiting.push_front(Answer::Network(answer));
            return Some(Report::Answer { id, part: Part::Sockets(sockets) });
        }
        let omitted = answer.walk.skip_rest() as u64;
        let containers = answer.walk.counters().into_iter().map(Into::into).collect();
        let denied_packets = answer.denied_packets;
        Some(Report::Answer { id, part: Part::Containers { containers, omitted, denied_packets } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Family, StackConfig};

    #[tokio::test]
    async fn answers_come_in_parts_and_in_order() {
        let stack = Stack::new(StackConfig::default());
        let endpoint = stack.attach("a");
        let sockets: Vec<_> = (0..PAGE + 1)
            .map(|_| {
                let socket = endpoint.udp_socket(Family::V4).unwrap();
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                socket
            })
            .collect();
        let ipc = Ipc::new(Default::default(), "/nonexistent".into());
        let mut answers = Answers::default();
        let timeline = Timeline::new(std::time::Instant::now());
        for id in 0..MAX_WAITING as u64 + 1 {
            answers.ask(id, Question::Network, &stack, &timeline, &ipc);
        }
        let mut next = || answers.next();
        for id in 0..MAX_WAITING as u64 {
            let Some(Report::Answer { id: first, part: Part::Sockets(page) }) = next() else { panic!() };
            assert_eq!((first, page.len()), (id, PAGE));
            let Some(Report::Answer { id: second, part: Part::Sockets(page) }) = next() else { panic!() };
            assert_eq!((second, page.len()), (id, 1));
            let Some(Report::Answer { id: last, part }) = next() else { panic!() };
            let Part::Containers { containers, omitted, denied_packets } = part else { panic!() };
            assert_eq!(denied_packets, DeniedPackets::default());
            assert_eq!((last, omitted), (id, 0));
            assert_eq!(containers[0].name, "a");
            assert_eq!(containers[0].kernel.udp.open, sockets.len() as u64);
        }
        assert_eq!(next(), None, "the one beyond the bound");
    }
}
