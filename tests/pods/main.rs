//! Real pods, run by the real binary: what a user sees, held.

#[path = "../support/mod.rs"]
mod support;

mod apply;
mod apply_following;
mod bounds;
mod broken;
mod claims;
mod cleanup;
mod config;
mod containers;
mod describe;
mod endings;
mod environment;
mod escapes;
mod exec;
mod file_threads;
mod files;
mod hooks;
mod hostile;
mod identity;
mod images;
mod ipc;
mod keyvalue;
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
mod projected;
mod resources;
mod restarts;
mod rootless;
mod sidecars;
mod sockets;
mod users;
mod versions;
mod volume_errors;
mod volumes;
