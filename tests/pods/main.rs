//! Real pods, run by the real binary: what a user sees, held.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod cleanup;
mod containers;
mod describe;
mod endings;
mod escapes;
mod exec;
mod hooks;
mod hostile;
mod images;
mod ipc;
mod killed;
mod lifecycle;
mod live;
mod names;
mod network;
mod observe;
mod phases;
mod policy;
mod polyglot;
mod probes;
mod probing;
mod resources;
mod restarts;
mod rootless;
mod sidecars;
mod sockets;
mod users;
mod volumes;
