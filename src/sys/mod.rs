//! The only place with `unsafe` and raw syscalls: what neither std nor nix offers, wrapped so that the rest
//! of peapod cannot misuse it.
//!
//! | module | what |
//! |---|---|
//! | [`affinity`] | the CPUs that a thread may run on |
//! | [`clone`] | `clone3(2)` into new namespaces and a cgroup, from a single-threaded process |
//! | [`enter`] | entering the namespaces of a running process |
//! | [`fds`] | descriptors sent through a unix socket |
//! | [`fork`] | a function in a child process of its own |
//! | [`guard`] | a command that leaves nothing running when this process ends before it |
//! | [`heap`] | one heap for all threads |
//! | [`pidfd`] | a process as a file descriptor: signal it, wait for it |
//! | [`process`] | what `/proc` says about a process: threads, start time, capabilities |
//! | [`namespace`] | what a process does to the namespaces it has just entered |
//! | [`mount`] | the mounts of a pod |
//! | [`mqueue`] | POSIX message queues |
//! | [`futex`] | waiting on several numbers in memory at once |
//! | [`shared`] | numbers in memory that other processes have mapped too |
//! | [`netlink`] | a small synchronous netlink socket: one send per batch |
//! | [`user`] | the user that one thread works with files as |
//! | [`socket`] | what the kernel says about a socket |
//! | [`conntrack`] | connections that the kernel tracks, for [`netlink`] |
//! | [`notices`] | a descriptor that says that something has happened |
//! | [`nftables`] | nf_tables messages, for [`netlink`] |

pub mod affinity;
pub mod clone;
pub mod conntrack;
pub mod enter;
pub mod fds;
pub mod fork;
pub mod futex;
pub mod guard;
pub mod heap;
pub mod inotify;
pub mod mount;
pub mod mqueue;
pub mod namespace;
pub mod netlink;
pub mod nftables;
pub mod notices;
pub mod pidfd;
pub mod process;
pub mod shared;
pub mod socket;
pub mod user;
