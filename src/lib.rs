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
//! | module | what it does, in the order of the data |
//! |---|---|
//! | [`cli`] | arguments, progress, exit codes; `cli::run` is the supervisor and shows the whole way, `cli::answer` is what it answers |
//! | [`manifest`] | YAML and JSON into Kubernetes' own types; every unknown field, with its path |
//! | [`spec`] | the validated pod; [`spec::convert`] is the one conversion, all errors at once |
//! | [`image`] | a reference to machine code: build, wrap, compile once, cache, map; to a volume's directory: unpack once |
//! | [`engine`] | wasmtime's policy: an engine for each WASI, pool, limits, epochs, what a component is |
//! | [`sandbox`] | the pod's place in the kernel: made with roll-back, removed, swept up after a crash |
//! | [`sys`] | the system calls that this takes |
//! | [`pod`] | the pod's life: a pure state machine, the task that acts on it, hooks, probes and commands, the control protocol; what its network is made of |
//! | [`api`] | how a running pod is asked and changed: HTTP and JSON on a unix socket, commands over a WebSocket, as Kubernetes has it |
//! | [`container`] | one container: its run, its state, its memory and CPU account, its log, its end and last words |
//! | [`descriptors`] | the pod process's file descriptors, a share for each container |
//! | [`volume`] | volumes to directory handles, single files in their places; claims that outlive pods, their binding and provisioning |
//! | [`net`] | the pod's network: two planes, one port space, names, one policy; knows nothing of wasmtime |
//! | [`ipc`] | the pod's message queues, shared memory, semaphores and channels; knows nothing of wasmtime |
//! | [`keyvalue`] | the pod's key-value stores, in its volumes; knows nothing of wasmtime |
//! | [`wasi`] | WASI 0.2 and 0.3 hosts over `net` and the log, `peapod:pod` and `peapod:ipc`, `wasi:config`, `wasi:keyvalue`, files as their user; everything else of WASI is upstream's |
//! | [`paths`] | where things are on the host |
//!
//! ## Processes
//!
//! `peapod run` is the *supervisor* and the zygote in one: while it is still single-threaded it
//! validates the manifest, loads every image's machine code and then forks the *pod process*
//! straight into new namespaces and a new cgroup. The pod process runs all containers of the pod on
//! one tokio runtime; the supervisor watches it, forwards stop requests, answers on the pod's control
//! socket and undoes everything that was created when it ends. It never compiles while the pod runs: what a
//! command or an ephemeral container needs is compiled by a process of its own (`peapod prepare-image`).
//!
//! ## Invariants (held by `tests/invariants.rs`)
//!
//! 1. `unsafe` and raw syscalls live in [`sys`] only; elsewhere `libc` is for constants. The one exception
//!    is the mapping of compiled code in [`engine::code`], whose SAFETY comment says why it can be trusted.
//! 2. serde appears in [`manifest`], [`image`], [`cli`], [`api`], [`pod::control`], [`sandbox::record`],
//!    [`sandbox::cni`] and the records of [`volume::claims`] only. Wire types never reach the pod's state machine.
//! 3. Only [`engine`], [`image`], [`wasi`] and [`container::runner`] name wasmtime.
//! 4. [`spec`], of [`pod`] all that decides (state, actions, conditions, outcome, status, back-off, probe, stop),
//!    [`net::ports`], the table of UDP sockets, and of [`net::names`] hosts, resolv.conf, search lists and queries
//!    are pure: `now` is an argument; no tokio, no clock, no I/O.
//! 5. Every task has an owner that joins or cancels it; every queue, buffer and table is bounded,
//!    and the bound's constant says its unit and why.
//! 6. The pod process enters its namespaces and cgroup while single-threaded.

#![warn(missing_docs)]

pub mod api;
pub mod cli;
pub mod container;
pub mod descriptors;
pub mod engine;
pub mod image;
pub mod ipc;
pub mod keyvalue;
pub mod manifest;
pub mod net;
pub mod paths;
pub mod pod;
pub mod sandbox;
pub mod spec;
pub mod sys;
pub mod volume;
pub mod wasi;

#[cfg(test)]
mod testing;
