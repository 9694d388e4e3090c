//! The pod's network, as its process makes it: what records, files and policies say becomes a [`Stack`].
//!
//! ```text
//! supervisor:   Outside::look ─ what the pod process cannot see any more
//!                    │ fork
//! pod process:  Network::prepare ─┬─ etc: /etc/hosts, resolv.conf, hostname
//!                    │            └─ policies ─► firewall: nf_tables in the pod's network namespace
//!                    │ the pod has its addresses
//!               Network::open ─┬─► Stack: names from etc and neighbours, the policy, the capture
//!                              └─► Following: peers come and go ─► policy, firewall; what that denies ─► the user
//! ```
//!
//! Everything that does not need the addresses is done while the supervisor makes the pod's link.
//!
//! Two modules read the other pods' records ([`crate::sandbox::record`]), since they are asked in two ways.
//! `neighbours` looks when a name is looked up, so that a pod that looks none up pays nothing. `peers` has to tell of a
//! change as it happens: it watches, by inotify, of which a user has few (`fs.inotify.max_user_instances`), and so
//! only for policies that select pods.

mod etc;
pub mod firewall;
mod neighbours;
mod peers;
mod policies;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::fs::Dir;

pub(super) use etc::EtcError;

use self::etc::Etc;
use self::neighbours::Records;
use self::policies::{Policies, Surroundings};
use crate::descriptors::Descriptors;
use crate::net::names::Cluster;
use crate::net::{Capture, NamesConfig, Policy, Stack, StackConfig, Tell};
use crate::sandbox::{self, record};
use crate::spec::Pod;

/// What the pod process knows of the world that it leaves.
pub(super) struct Outside {
    /// The other pods, for one that may ask for them by name.
    others: Option<Records>,
    /// For the NetworkPolicies.
    surroundings: Surroundings,
    /// The pod's directory below `<run>`: in memory, on most machines.
    run_dir: PathBuf,
}

impl Outside {
    /// In the supervisor, before the fork.
    pub(super) fn look(pod: &Pod, config: &sandbox::Config<'_>) -> Self {
        Self {
            others: pod.knows_cluster().then(|| Records::new(config.paths, config.uid)),
            surroundings: Surroundings::look(pod, config),
            run_dir: record::directories(config.paths).join(config.uid),
        }
    }
}

/// A pod's network, all but its addresses.
pub(super) struct Network {
    etc: Etc,
    others: Option<Records>,
    policies: Policies,
    tell: Tell,
}

impl Network {
    /// Writes the pod's files in `/etc` and puts its policies in force in the kernel. To be called once, in the pod's
    /// namespaces.
    ///
    /// # Errors
    /// When the files cannot be written. What else is missing is told.
    pub(super) fn prepare(pod: &Pod, outside: Outside, tell: Tell) -> Result<Self, EtcError> {
        let Outside { others, surroundings, run_dir } = outside;
        let mut etc = Etc::prepare(pod, &run_dir)?;
        etc.warnings.drain(..).for_each(|warning| tell.tell(warning));
        let policies = Policies::apply(pod, surroundings, tell.clone());
        Ok(Self { etc, others, policies, tell })
    }

    /// The pod's `/etc`, for [`crate::volume::Volumes::offer_etc`].
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open_etc(&self) -> Result<Dir, EtcError> {
        self.etc.open()
    }

    /// The network of a pod with these addresses, and what keeps it up to date.
    pub(super) fn open(
        self,
        pod: &Pod,
        addresses: &[IpAddr],
        capture: Option<Capture>,
        descriptors: Descriptors,
    ) -> (Arc<Stack>, Following) {
        let Self { etc, others, mut policies, tell } = self;
        let own = || neighbours::own(pod, addresses);
        let cluster = others.map(|others| Cluster { own: own(), others: Arc::new(others) });
        let policy = policies.policy(pod, addresses);
        let stack = Stack::new(StackConfig {
            addresses: addresses.to_vec(),
            names: NamesConfig { cluster, tell, ..etc.finish(pod, addresses) },
            policy: policy.clone(),
            capture,
            descriptors,
            ..StackConfig::default()
        });
        (stack, Following { policies, policy })
    }
}

/// Keeps a pod's policy up to date.
pub(super) struct Following {
    policies: Policies,
    policy: Policy,
}

impl Following {
    /// Follows the other pods and what the kernel denies; never ends.
    pub(super) async fn run(self) {
        self.policies.follow(self.policy).await;
    }
}
