//! # peapod
//!
//! Runs Kubernetes Pods whose containers are WebAssembly components. The peas are the components;
//! the pod is a real Linux network namespace and cgroup with a host-owned virtual network and
//! shared volumes inside.
//!
//! ## The way of the data
//!
//! ```text
//! YAML/JSON ─► manifest ─► spec ─► image ─► sandbox ─► (fork) ─► pod worker ─► container runner
//!              wire types  checked  bytes →  namespaces,         pure state     one Store each,
//!              + paths     once     machine  cgroup, veth        machine +      WASI hosts over
//!                                   code                         one task       net and volume
//! ```
//!
//! The modules below are listed in that order; read them from the top.
//!
//! ## Processes
//!
//! `peapod run` is the *supervisor* and the zygote in one: while it is still single-threaded it
//! validates the manifest, loads every image's machine code and then forks the *pod process*
//! straight into new namespaces and a new cgroup. The pod process runs all containers of the pod on
//! one tokio runtime; the supervisor watches it, forwards stop requests and undoes everything that
//! was created when it ends.
//!
//! ## Invariants (held by `tests/invariants.rs`)
//!
//! 1. `unsafe` and raw syscalls live in [`sys`] only. The one exception is the mapping of compiled
//!    code in [`engine`], whose SAFETY comment says why the file can be trusted.
//! 2. serde appears in [`manifest`], [`image`], the control protocol and the state record only. Wire
//!    types never reach the pod's state machine.
//! 3. Only [`engine`], [`image`], [`wasi`] and [`container::runner`] name wasmtime.
//! 4. [`pod::state`], [`pod::actions`], [`pod::status`], [`pod::backoff`] and `net::ports` are pure:
//!    `now` is an argument; no tokio, no clock, no I/O.
//! 5. Every task has an owner that joins or cancels it; every queue, buffer and table is bounded,
//!    and the bound's constant says its unit and why.
//! 6. The pod process enters its namespaces and cgroup while single-threaded.

#![warn(missing_docs)]

pub mod paths;

pub mod manifest;
pub mod spec;

pub mod engine;
pub mod image;

pub mod sandbox;
pub mod sys;

pub mod net;
pub mod volume;

pub mod container;
pub mod pod;
pub mod wasi;

pub mod cli;

#[cfg(test)]
mod testing;
