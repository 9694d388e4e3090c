//! Why a sandbox cannot be made.

use std::io;

use thiserror::Error;

use super::Step;
use super::cgroup::CgroupError;
use super::cni::CniError;
use super::host_port::HostPortError;
use super::ipam::IpamError;
use super::network::NetworkError;
use super::record::RecordError;
use super::remove::RemoveError;
use crate::sys::netlink::NetlinkError;

/// A sandbox cannot be made.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The record or its lock.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The address.
    #[error(transparent)]
    Address(#[from] IpamError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network of plugins.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// A port of the host.
    #[error(transparent)]
    HostPort(#[from] HostPortError),
    /// User namespaces are forbidden or used up.
    #[error("cannot make a user namespace: {0}; run as root, or allow them: {advice}", advice = user_namespace_advice(.0))]
    UserNamespace(io::Error),
    /// The process.
    #[error("cannot fork the pod process: {0}")]
    Clone(io::Error),
    /// The pod process says what failed inside.
    #[error("in the pod: {0}")]
    Inside(String),
    /// The pod process ended before it was ready.
    #[error("the pod process ended while it was being set up ({0})")]
    Ended(String),
    /// The control socket failed.
    #[error("control socket of the pod process: {0}")]
    Control(#[from] io::Error),
    /// A test asked for it.
    #[error("failed on purpose after step {0:?}")]
    Failpoint(Step),
    /// And not everything made before could be undone.
    #[error("{cause}; and this could not be undone: {}", join(.left))]
    RollBack {
        /// What failed first.
        cause: Box<SandboxError>,
        /// What is left; the next run tries again.
        left: Vec<RemoveError>,
    },
}

impl From<NetlinkError> for SandboxError {
    fn from(error: NetlinkError) -> Self {
        Self::Network(error.into())
    }
}

fn join(errors: &[RemoveError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn user_namespace_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "sysctl user.max_user_namespaces",
        _ => {
            "sysctl kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), or the container's seccomp profile"
        }
    }
}
