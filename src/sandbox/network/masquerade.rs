//! The pods' way out: packets that leave the host for elsewhere get the host's address.
//!
//! ```text
//! table inet peapod {
//!     chain postrouting { type nat hook postrouting priority srcnat;
//!         iifname "pea*" oifname != "pea*" masquerade }
//!     chain ip-forward-was-off {}       # only when it was: the last pod out turns it off again
//! }
//! ```
//!
//! One table serves every pod of the host and both families, whatever its network and whoever started it. What counts
//! its users is what cannot be wrong: the host's routes to pods. Whoever makes or removes the table holds a lock that
//! belongs to the host's network namespace.

use std::fs::File;

use nix::errno::Errno;

use super::forwarding::{self, Switch};
use super::{HostNetwork, LINK_PREFIX, NetworkError, own_namespace};
use crate::sys::netlink::Socket;
use crate::sys::nftables::{Comparison, Expression, Hook, Interface, Transaction, chains, table_exists};

/// The table of all that peapod does with packets.
pub(super) const TABLE: &str = "peapod";
/// Its chain for sources.
pub(super) const POSTROUTING: &str = "postrouting";

/// Waits for this host's network to be ours to change. Every process of the host's network namespace locks the
/// same file, the namespace itself; the lock ends with the file.
pub(crate) fn lock_host() -> Result<File, NetworkError> {
    let file = own_namespace();
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| NetworkError::File { action: "lock the host's network".into(), source })
}

/// Lets pods reach each other and the world. To be called with the host locked, after the pod's route is there.
/// Returns what is missing.
pub(crate) fn masquerade(has_ipv6: bool) -> Vec<String> {
    let mut missing = Vec::new();
    let switches: Vec<_> =
        Switch::needed(has_ipv6).into_iter().map(|switch| (switch, switch.markers())).collect();
    let markers = switches.iter().flat_map(|(_, markers)| markers);
    if let Err(error) = add_table(markers) {
        missing.push(format!(
            "pods cannot reach beyond this host: {error}; is the kernel module nf_tables (with nft_masq) there?"
        ));
    }
    for (switch, markers) in &switches {
        if let Err(error) = switch.turn_on(markers) {
            missing.push(format!("{}: {error}", switch.purpose()));
        }
    }
    missing
}

fn add_table<'a>(markers: impl Iterator<Item = &'a String>) -> Result<(), NetworkError> {
    let mut markers = markers.peekable();
    let mut socket = Socket::netfilter()?;
    let exists = table_exists(&mut socket, TABLE)?;
    if exists && markers.peek().is_none() {
        return Ok(());
    }
    let mut transaction = Transaction::new(TABLE);
    if !exists {
        transaction.add_table();
        transaction.add_base_chain(POSTROUTING, Hook::PostroutingNat);
        let from_pod = Expression::is_on_interface(Interface::In, Comparison::Equal, LINK_PREFIX);
        let to_elsewhere = Expression::is_on_interface(Interface::Out, Comparison::NotEqual, LINK_PREFIX);
        let rule = from_pod.into_iter().chain(to_elsewhere).chain([Expression::masquerade()]);
        transaction.add_rule(POSTROUTING, rule);
    }
    for marker in markers {
        transaction.add_chain(marker);
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
    // The table remembers until it is done.
    forwarding::restore(&chains(&mut socket, TABLE)?)?;
    let mut transaction = Transaction::new(TABLE);
    transaction.delete_table();
    Ok(transaction.commit(&mut socket)?)
}
