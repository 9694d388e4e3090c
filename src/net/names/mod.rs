//! Names: what the pod answers itself, what it knows of its neighbours, and nameservers for the rest.
//!
//! ```text
//! name ─► query: address literal, syntax, IDNA
//!      ─► hosts: localhost, hostname, FQDN, hostAliases (the pod's /etc/hosts)
//!      ─► search: candidates by search domains and ndots (the pod's /etc/resolv.conf), for each in turn
//!           ├─ below cluster.local ─► cluster: this machine's pods ─┐
//!           └─ others ─► cache ─► upstream: nameservers ────────────┴─► order: what can be reached, first
//! ```
//!
//! Everything is made when it is first needed: a pod that looks nothing up pays nothing. What cannot be answered
//! is [`Error::NameUnresolvable`] where the name does not exist (NXDOMAIN) or has no address (NODATA),
//! [`Error::TemporaryResolverFailure`] where a server fails or is silent, and
//! [`Error::PermanentResolverFailure`] where servers refuse or there is no way to any.

mod cache;
mod cluster;
mod hosts;
mod order;
mod query;
mod resolv_conf;
mod search;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use cluster::{Cluster, Neighbour, Neighbours};
pub use hosts::Hosts;
pub use resolv_conf::{ResolvConf, is_stub};

use self::cache::Cache;
use self::query::Query;
use self::upstream::{Answer, Failure, Upstream};
use super::{Error, Result, Tell};

/// Most lookups of one container that may be under way at once; the others wait. Each has a socket or two, and a
/// server that does not answer holds it for seconds. Of its own, so that one container does not keep the
/// others from looking up.
pub(super) const MAX_LOOKUPS: usize = 16;

/// Most lookups of one container, those that wait included: each is a task of a kilobyte or two.
const MAX_PENDING_LOOKUPS: usize = 1024;

/// Most addresses of a name, of each family; servers that have more say a few of them, which change.
const MAX_ADDRESSES: usize = 32;

/// What a pod's names are made from.
#[derive(Debug, Clone, Default)]
pub struct NamesConfig {
    /// The pod's /etc/hosts.
    pub hosts: Hosts,
    /// The pod's /etc/resolv.conf.
    pub resolv_conf: ResolvConf,
    /// Names of the cluster, where the pod knows any.
    pub cluster: Option<Cluster>,
    /// Why there is no way to any nameserver, if so, and what to do about it.
    pub unreachable: Option<String>,
    /// Who is told, once, when somebody asks for a name that [`Self::unreachable`] keeps from being resolved.
    pub tell: Tell,
}

/// One container's places for lookups.
#[derive(Debug)]
pub(super) struct Lookups {
    pending: Semaphore,
    under_way: Semaphore,
}

impl Lookups {
    /// `under_way` at once: [`MAX_LOOKUPS`] but in tests.
    pub(super) fn new(under_way: usize) -> Self {
        Self { pending: Semaphore::new(MAX_PENDING_LOOKUPS), under_way: Semaphore::new(under_way) }
    }

    /// A place for as long as the value lives.
    pub(super) async fn place(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        let pending = self.pending.try_acquire().map_err(|_| Error::TemporaryResolverFailure)?;
        let under_way = self.under_way.acquire().await.map_err(|_| Error::TemporaryResolverFailure)?;
        Ok((pending, under_way))
    }

    /// How many more may be under way.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.under_way.available_permits()
    }
}

/// The names of one pod, for all its containers.
#[derive(Debug)]
pub(super) struct Names {
    config: NamesConfig,
    ndots: usize,
    hosts: OnceLock<HashMap<String, Vec<IpAddr>>>,
    upstream: OnceLock<Upstream>,
    cache: Mutex<Cache>,
    told: Once,
}

impl Names {
    pub(super) fn new(config: NamesConfig) -> Self {
        Self {
            ndots: config.resolv_conf.settings().ndots,
            config,
            hosts: OnceLock::new(),
            upstream: OnceLock::new(),
            cache: Mutex::default(),
            told: Once::new(),
        }
    }

    /// Looks a name up. `lookups` are the container's.
    ///
    /// # Errors
    /// See the module.
    pub(super) async fn resolve(&self, name: &str, lookups: &Lookups) -> Result<Vec<IpAddr>> {
        let (name, absolute) = match query::parse(name)? {
            Query::Address(ip) => return Ok(vec![ip]),
            Query::Name { name, absolute } => (name, absolute),
        };
        if let Some(addresses) = self.own(&name) {
            return Ok(addresses);
        }
        let _place = lookups.place().await?;
        let mut failure = None;
        // A name of the cluster is nothing else below a search domain, and none of a nameserver's business.
        let absolute = absolute || (self.config.cluster.is_some() && cluster::relative(&name).is_some());
        for candidate in search::candidates(&name, absolute, &self.config.resolv_conf.search, self.ndots) {
            match self.ask(&candidate).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => return Ok(ordered(addresses.to_vec())),
                // As glibc: a server's failure to answer for one domain says nothing about the next.
                Err(why @ (Failure::Refused | Failure::Malformed | Failure::ServFail)) => {
                    failure = failure.max(Some(why));
                }
                Err(Failure::Silent) => return Err(self.silent()),
            }
        }
        Err(failure.map_or(Error::NameUnresolvable, Error::from))
    }

    /// What needs nobody else: /etc/hosts, and `localhost` (RFC 6761, section 6.3).
    ///
    /// IPv4 comes first for the loopback: most servers that bind one address bind 127.0.0.1.
    fn own(&self, name: &str) -> Option<Vec<IpAddr>> {
        match self.hosts.get_or_init(|| self.config.hosts.table()).get(name) {
            Some(addresses) if addresses.iter().any(IpAddr::is_loopback) => Some(addresses.clone()),
            Some(addresses) => Some(ordered(addresses.clone())),
            None if name == "localhost" || name.ends_with(".localhost") => Some(loopback().to_vec()),
            None => None,
        }
    }

    /// The addresses of an absolute name; none: there is no such name, or it has no address.
    async fn ask(&self, name: &str) -> std::result::Result<Arc<[IpAddr]>, Failure> {
        if let (Some(cluster), Some(relative)) = (&self.config.cluster, cluster::relative(name)) {
            let (cluster, relative) = (cluster.clone(), relative.to_owned());
            // It may have to read some files.
            let found = tokio::task::spawn_blocking(move || cluster.find(&relative)).await;
            return found.map(Arc::from).map_err(|_| Failure::ServFail);
        }
        if self.config.unreachable.is_some() {
            return Err(Failure::Silent);
        }
        if let Some(known) = self.cache().get(name, Instant::now()) {
            return Ok(known);
        }
        let upstream = self.upstream.get_or_init(|| Upstream::new(&self.config.resolv_conf));
        let Answer { addresses, until } = upstream.ask(name).await?;
        self.cache().insert(name, addresses.clone(), until, Instant::now());
        Ok(addresses)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nobody answers.
    fn silent(&self) -> Error {
        let Some(reason) = &self.config.unreachable else { return Error::TemporaryResolverFailure };
        self.told.call_once(|| self.config.tell.tell(reason.clone()));
        Error::PermanentResolverFailure
    }
}

/// The loopback's addresses.
fn loopback() -> [IpAddr; 2] {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
}

fn ordered(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    order::sort(&mut addresses, order::source);
    addresses
}
