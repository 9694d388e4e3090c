//! Real pods, run by the real binary: what a user sees, held.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod cleanup;
mod containers;
mod exec;
mod hostile;
mod images;
mod lifecycle;
mod names;
mod network;
mod observe;
mod policy;
mod polyglot;
mod rootless;
mod sockets;
mod volumes;
