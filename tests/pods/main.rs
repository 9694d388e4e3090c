//! Real pods, run by the real binary: what a user sees, held.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod cleanup;
mod containers;
mod endings;
mod hostile;
mod images;
mod killed;
mod lifecycle;
mod names;
mod network;
mod observe;
mod policy;
mod polyglot;
mod probing;
mod restarts;
mod rootless;
mod sockets;
mod volumes;
