//! The kernel's leave to pass packets on between links, for each family; off again with the last pod.
//!
//! ```text
//! off ─► remembered in the table (an empty chain, named so) ─► on ─► last pod out: off, forgotten with the table
//! ```
//!
//! IPv6's `all/forwarding` makes a router of the host: it would not listen to its own router any more
//! (`accept_ra`). `force_forwarding` (Linux 6.17) has no such effect. Before it, the links that listened are told to
//! go on though the host forwards (`accept_ra` 2), and that is taken back, too.

use super::NetworkError;
use crate::sys::namespace::{links_with_parameters, network_parameter, set_network_parameter};

const IPV4: &str = "ipv4/ip_forward";
const IPV6: &str = "ipv6/conf/all/forwarding";
/// For the links that are there, and for those to come.
const IPV6_FORCED: [&str; 2] = ["ipv6/conf/all/force_forwarding", "ipv6/conf/default/force_forwarding"];
/// What a marker of a link begins with that accepted router advertisements.
const ACCEPTED_RA: &str = "accept-ra-was-1-";

/// A way to let packets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switch {
    /// IPv4.
    V4,
    /// IPv6, without making a router of the host.
    V6Forced,
    /// IPv6 before Linux 6.17.
    V6,
}

impl Switch {
    const ALL: [Self; 3] = [Self::V4, Self::V6Forced, Self::V6];

    /// What has to be turned on.
    pub(super) fn needed(has_ipv6: bool) -> Vec<Self> {
        let is_off = |name: &str| network_parameter(name).is_ok_and(|value| value == "0");
        let mut needed = Vec::new();
        if is_off(IPV4) {
            needed.push(Self::V4);
        }
        let can_force = network_parameter(IPV6_FORCED[0]).is_ok();
        // Looked at first, as it is on but for the first pod.
        if has_ipv6 && can_force && IPV6_FORCED.into_iter().any(is_off) && is_off(IPV6) {
            needed.push(Self::V6Forced);
        } else if has_ipv6 && !can_force && is_off(IPV6) {
            needed.push(Self::V6);
        }
        needed
    }

    fn marker(self) -> &'static str {
        match self {
            Self::V4 => "ip-forward-was-off",
            Self::V6Forced => "ip6-force-forwarding-was-off",
            Self::V6 => "ip6-forwarding-was-off",
        }
    }

    /// The chains that remember what was before it was turned on.
    pub(super) fn markers(self) -> Vec<String> {
        let mut markers = vec![self.marker().to_owned()];
        if self == Self::V6 {
            let links = links_with_parameters("ipv6/conf").unwrap_or_default().into_iter();
            let listening = links.filter(|link| link != "all" && accept_ra(link).as_deref() == Some("1"));
            markers.extend(listening.map(|link| format!("{ACCEPTED_RA}{link}")));
        }
        markers
    }

    /// Turns it on, once its markers are there.
    pub(super) fn turn_on(self, markers: &[String]) -> Result<(), NetworkError> {
        match self {
            Self::V4 => set(IPV4, "1"),
            Self::V6Forced => IPV6_FORCED.into_iter().try_for_each(|name| set(name, "1")),
            Self::V6 => {
                for link in markers.iter().filter_map(|marker| marker.strip_prefix(ACCEPTED_RA)) {
                    set_accept_ra(link, "2")?;
                }
                set(IPV6, "1")
            }
        }
    }

    /// Whoever needs it, in a message.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::V4 => "pods cannot reach each other",
            Self::V6Forced | Self::V6 => "pods cannot reach each other with IPv6",
        }
    }
}

/// Turns off again what `markers` say was off.
pub(super) fn restore(markers: &[String]) -> Result<(), NetworkError> {
    let was_off = |switch: &Switch| markers.iter().any(|marker| marker == switch.marker());
    for switch in Switch::ALL.into_iter().filter(was_off) {
        match switch {
            Switch::V4 => set(IPV4, "0")?,
            Switch::V6Forced => IPV6_FORCED.into_iter().try_for_each(|name| set(name, "0"))?,
            Switch::V6 => set(IPV6, "0")?,
        }
    }
    for link in markers.iter().filter_map(|marker| marker.strip_prefix(ACCEPTED_RA)) {
        // Not one that has vanished, nor one that was set otherwise meanwhile.
        if !link.contains('/') && accept_ra(link).as_deref() == Some("2") {
            set_accept_ra(link, "1")?;
        }
    }
    Ok(())
}

fn accept_ra(link: &str) -> Option<String> {
    network_parameter(&format!("ipv6/conf/{link}/accept_ra")).ok()
}

fn set_accept_ra(link: &str, value: &str) -> Result<(), NetworkError> {
    set(&format!("ipv6/conf/{link}/accept_ra"), value)
}

fn set(name: &str, value: &str) -> Result<(), NetworkError> {
    set_network_parameter(name, value).map_err(|source| NetworkError::File {
        action: format!("set {} to {value}", format_args!("net.{}", name.replace('/', "."))),
        source,
    })
}
