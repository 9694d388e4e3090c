//! One container: what it is doing ([`state`], pure) and what it says ([`log`]).

pub mod log;
pub mod state;
