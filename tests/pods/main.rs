//! Real pods, run by the real binary: what a user sees, held.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod cleanup;
mod containers;
mod hostile;
mod images;
mod ipc;
mod killed;
mod lifecycle;
mod names;
mod network;
mod observe;
mod policy;
mod polyglot;
mod rootless;
mod sockets;
mod volumes;
