//! The pods' way out: packets that leave the host for elsewhere get the host's address.
//!
//! ```text
//! table ip peapod {
//!     chain postrouting { type nat hook postrouting priority srcnat;
//!         iifname "pea*" oifname != "pea*" masquerade }
//!     chain ip-forward-was-off {}       # only when it was: the last pod out turns it off again
//! }
//! ```
//!
//! One table serves every pod of the host, whatever its network and whoever started it. What counts its users
//! is what cannot be wrong: the host's routes to pods. Whoever makes or removes the table holds a lock that
//! belongs to the host's network namespace.

use std::fs::File;

use nix::errno::Errno;

use super::{HostNetwork, LINK_PREFIX, NetworkError, own_namespace};
use crate::sys::namespace::{ipv4_parameter, set_ipv4_parameter};
use crate::sys::netlink::Socket;
use crate::sys::nftables::{Comparison, Expression, Interface, Transaction, chain_exists, table_exists};

const TABLE: &str = "peapod";
const CHAIN: &str = "postrouting";
/// An empty chain that remembers what [`FORWARDING`] was.
const FORWARDING_WAS_OFF: &str = "ip-forward-was-off";
const FORWARDING: &str = "ip_forward";

/// Waits for this host's network to be ours to change. Every process of the host's network namespace locks the
/// same file, the namespace itself; the lock ends with the file.
pub(crate) fn lock_host() -> Result<File, NetworkError> {
    let file = own_namespace();
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| NetworkError::File { action: "lock the host's network".into(), source })
}

/// Lets pods reach each other and the world. To be called with the host locked, after the pod's route is there.
/// Returns what is missing.
pub(crate) fn masquerade() -> Vec<String> {
    let mut missing = Vec::new();
    let forwarding = ipv4_parameter(FORWARDING).ok();
    let was_off = forwarding.as_deref() == Some("0");
    if let Err(error) = add_table(was_off) {
        missing.push(format!(
            "pods cannot reach beyond this host: {error}; is the kernel module nf_tables (with nft_masq) there?"
        ));
    }
    if forwarding.as_deref() != Some("1")
        && let Err(error) = set_ipv4_parameter(FORWARDING, "1")
    {
        missing.push(format!("pods cannot reach each other: cannot set net.ipv4.ip_forward to 1: {error}"));
    }
    missing
}

fn add_table(forwarding_was_off: bool) -> Result<(), NetworkError> {
    let mut socket = Socket::netfilter()?;
    if table_exists(&mut socket, TABLE)? {
        return Ok(());
    }
    let mut transaction = Transaction::new();
    transaction.add_table(TABLE);
    transaction.add_source_nat_chain(TABLE, CHAIN);
    let from_pod = Expression::interface_prefix(Interface::In, Comparison::Equal, LINK_PREFIX);
    let to_elsewhere = Expression::interface_prefix(Interface::Out, Comparison::NotEqual, LINK_PREFIX);
    let rule = from_pod.into_iter().chain(to_elsewhere).chain([Expression::masquerade()]);
    transaction.add_rule(TABLE, CHAIN, rule);
    if forwarding_was_off {
        transaction.add_chain(TABLE, FORWARDING_WAS_OFF);
    }
    Ok(transaction.commit(&mut socket)?)
}

/// Removes what [`masquerade`] made when `host` has no route to a pod any more. To be called with the host
/// locked.
pub(crate) fn stop_when_unused(host: &HostNetwork) -> Result<(), NetworkError> {
    if host.routes.iter().any(|route| route.is_own()) {
        return Ok(());
    }
    let mut socket = match Socket::netfilter() {
        // Without netfilter in the kernel there was nothing to make.
        Err(error) if error.errno() == Some(Errno::EPROTONOSUPPORT) => return Ok(()),
        socket => socket?,
    };
    if !table_exists(&mut socket, TABLE)? {
        return Ok(());
    }
    let forwarding_was_off = chain_exists(&mut socket, TABLE, FORWARDING_WAS_OFF)?;
    let mut transaction = Transaction::new();
    transaction.delete_table(TABLE);
    transaction.commit(&mut socket)?;
    if forwarding_was_off {
        set_ipv4_parameter(FORWARDING, "0").map_err(|source| NetworkError::File {
            action: "set net.ipv4.ip_forward back to 0".into(),
            source,
        })?;
    }
    Ok(())
}
