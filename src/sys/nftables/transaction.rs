//! Changes of one table that the kernel applies together.

use nix::sys::socket::{setsockopt, sockopt};

use super::{COUNTER, Element, Expression, SUBSYSTEM, Type, header, message, number, text};
use crate::sys::netlink::{APPEND, Batch, CREATE, EXCLUSIVE, NetlinkError, Socket, attribute, nested};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;

/// `NFPROTO_UNSPEC`.
const UNSPECIFIED: u8 = 0;
/// `NFT_SET_MAP`.
const SET_IS_MAP: u32 = 8;
/// Elements in one message: an attribute's length has 16 bits, and one takes up to 408 bytes (16 registers for key
/// and value each, and a comment).
const ELEMENTS_A_MESSAGE: usize = 128;
/// What the kernel needs of a send buffer beyond the message, bytes: generous.
const SEND_OVERHEAD: usize = 64 * 1024;

/// Where packets meet a chain, and in which order with other chains there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Those that arrive, before connections are tracked: may be dropped.
    PreroutingRaw,
    /// Those that arrive: destinations may be rewritten.
    PreroutingNat,
    /// Those for this network namespace: may be refused.
    InputFilter,
    /// Those that this network namespace sends: destinations may be rewritten.
    OutputNat,
    /// The same: may be refused.
    OutputFilter,
    /// Those that leave: sources may be rewritten.
    PostroutingNat,
}

impl Hook {
    /// Hook number (`enum nf_inet_hooks`), priority (`enum nf_ip_hook_priorities`), type of chain.
    fn numbers(self) -> (u32, i32, &'static str) {
        match self {
            Self::PreroutingRaw => (0, -300, "filter"),
            Self::PreroutingNat => (0, -100, "nat"),
            Self::InputFilter => (1, 0, "filter"),
            Self::OutputNat => (3, -100, "nat"),
            Self::OutputFilter => (3, 0, "filter"),
            Self::PostroutingNat => (4, 100, "nat"),
        }
    }
}

/// Changes of one table. Only the last is acknowledged: a long transaction would overflow the socket with good news.
/// Errors always come.
#[derive(Debug)]
pub struct Transaction {
    table: &'static str,
    batch: Batch,
    is_empty: bool,
    /// How many sets it makes: a set's number in its transaction.
    sets: u32,
}

impl Transaction {
    /// No changes of table `table` yet.
    pub fn new(table: &'static str) -> Self {
        let mut batch = Batch::default();
        batch.push_raw("open an nftables transaction", BATCH_BEGIN, 0, &header(UNSPECIFIED, SUBSYSTEM));
        Self { table, batch, is_empty: true, sets: 0 }
    }

    /// Makes the table.
    pub fn add_table(&mut self) {
        self.push("make an nftables table", NEW_TABLE, CREATE, &[]);
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) {
        self.push("delete an nftables table", DELETE_TABLE, 0, &[]);
    }

    /// Makes a chain that no hook runs.
    pub fn add_chain(&mut self, chain: &str) {
        self.push("make an nftables chain", NEW_CHAIN, CREATE, &[attribute(3, &text(chain))]);
    }

    /// Makes a chain that packets meet at a hook.
    pub fn add_base_chain(&mut self, chain: &str, hook: Hook) {
        let (hook, priority, kind) = hook.numbers();
        let hook = nested(4, &[number(1, hook), attribute(2, &priority.to_be_bytes())]);
        let attributes = [attribute(3, &text(chain)), hook, attribute(7, &text(kind))];
        self.push("make an nftables chain", NEW_CHAIN, CREATE, &attributes);
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, chain: &str, expressions: impl IntoIterator<Item = Expression>) {
        let expressions: Vec<_> = expressions.into_iter().map(Expression::into_bytes).collect();
        let attributes = [attribute(2, &text(chain)), nested(4, &expressions)];
        self.push("make an nftables rule", NEW_RULE, CREATE | APPEND, &attributes);
    }

    /// Makes a counter that rules count in ([`Expression::count`]), from 0.
    pub fn add_counter(&mut self, counter: &str) {
        let attributes = [attribute(2, &text(counter)), number(3, COUNTER), nested(4, &[])];
        self.push("make an nftables counter", NEW_OBJECT, CREATE, &attributes);
    }

    /// Makes a set, or with `value` a map.
    pub fn add_set(&mut self, set: &str, key: &[Type], value: &[Type]) {
        self.sets += 1;
        let mut attributes = vec![
            attribute(2, &text(set)),
            number(4, Type::number_of_all(key)),
            number(5, Type::length_of_all(key)),
            number(10, self.sets),
        ];
        if !value.is_empty() {
            attributes.extend([
                number(3, SET_IS_MAP),
                number(6, Type::number_of_all(value)),
                number(7, Type::length_of_all(value)),
            ]);
        }
        self.push("make an nftables set", NEW_SET, CREATE, &attributes);
    }

    /// Adds elements to a set or map, which may have them already.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("add to an nftables set", NEW_ELEMENTS, CREATE, set, elements);
    }

    /// Adds elements to a set or map, which must not have them.
    pub fn create_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("add to an nftables set", NEW_ELEMENTS, CREATE | EXCLUSIVE, set, elements);
    }

    /// Deletes elements, which have to be there.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("delete from an nftables set", DELETE_ELEMENTS, 0, set, elements);
    }

    /// Takes everything out of a set.
    pub fn empty_set(&mut self, set: &str) {
        self.push("empty an nftables set", DELETE_ELEMENTS, 0, &[attribute(2, &text(set))]);
    }

    /// Applies all changes, or none.
    ///
    /// # Errors
    /// The first refused change.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        if self.is_empty {
            return Ok(());
        }
        self.batch.acknowledge_last();
        self.batch.push_raw("close an nftables transaction", BATCH_END, 0, &header(UNSPECIFIED, SUBSYSTEM));
        // The kernel takes a transaction in one message only, and counts its own overhead with it. Without the
        // privilege the default stays, and a transaction that is too long fails.
        let _ = setsockopt(&*socket, sockopt::SndBufForce, &(2 * self.batch.len() + SEND_OVERHEAD));
        socket.execute(&self.batch)
    }

    fn elements(&mut self, step: &'static str, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_A_MESSAGE) {
            let elements: Vec<_> = some.iter().map(|element| nested(1, &element.attributes())).collect();
            self.push(step, kind, flags, &[attribute(2, &text(set)), nested(3, &elements)]);
        }
    }

    /// The table is the first attribute of every change.
    fn push(&mut self, step: &'static str, kind: u16, flags: u16, attributes: &[Vec<u8>]) {
        let table = attribute(1, &text(self.table));
        self.batch.push_raw(step, kind, flags, &message(&[table, attributes.concat()]));
        self.is_empty = false;
    }
}
