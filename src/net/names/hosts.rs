//! The pod's /etc/hosts: what is in the file, is what resolves.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::loopback;
use crate::spec::HostAlias;

/// The text of a hosts(5) file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    text: String,
}

impl Hosts {
    /// The kubelet's for a pod with a network of its own (`managedHostsFileContent` in
    /// `pkg/kubelet/kubelet_pods.go`): `names` are the pod's own, the canonical one first. They are of its
    /// addresses; of the loopback's, where it has none.
    pub fn of_pod(names: &[String], addresses: &[IpAddr], aliases: &[HostAlias]) -> Self {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        let own = if addresses.is_empty() { &loopback() } else { addresses };
        if !names.is_empty() {
            for address in own {
                // Writing to a String does not fail.
                let _ = writeln!(text, "{address}\t{}", names.join("\t"));
            }
        }
        add_aliases(&mut text, aliases);
        Self { text }
    }

    /// The kubelet's for a pod on the host's network: the host's own, and the aliases
    /// (`nodeHostsFileContent`).
    pub fn of_host(host: &str, aliases: &[HostAlias]) -> Self {
        let mut text = String::from("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(host);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        add_aliases(&mut text, aliases);
        Self { text }
    }

    /// The file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every name in lower case with its addresses, in the file's order.
    pub(super) fn table(&self) -> HashMap<String, Vec<IpAddr>> {
        let mut table: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in self.text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            for name in words {
                let addresses = table.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default();
                if !addresses.contains(&ip.to_canonical()) {
                    addresses.push(ip.to_canonical());
                }
            }
        }
        table
    }
}

fn add_aliases(text: &mut String, aliases: &[HostAlias]) {
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for HostAlias { ip, hostnames } in aliases {
        let _ = writeln!(text, "{ip}\t{}", hostnames.join("\t"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn alias(ip: &str, names: &[&str]) -> HostAlias {
        HostAlias { ip: ip.parse().expect(ip), hostnames: strings(names) }
    }

    #[test]
    fn as_the_kubelet_writes_it() {
        let names = strings(&["web-0.web.team.svc.cluster.local", "web-0"]);
        let aliases = [alias("10.1.1.1", &["db", "db.example"]), alias("fd00::9", &["six"])];
        let hosts = Hosts::of_pod(&names, &ips(&["10.201.0.2", "fd00::2"]), &aliases);
        assert_eq!(
            hosts.text(),
            "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n\
             10.201.0.2\tweb-0.web.team.svc.cluster.local\tweb-0\n\
             fd00::2\tweb-0.web.team.svc.cluster.local\tweb-0\n\
             \n\
             # Entries added by HostAliases.\n\
             10.1.1.1\tdb\tdb.example\n\
             fd00::9\tsix\n"
        );
        let table = hosts.table();
        assert_eq!(table["web-0"], ips(&["10.201.0.2", "fd00::2"]));
        assert_eq!(table["web-0.web.team.svc.cluster.local"], table["web-0"]);
        assert_eq!(table["db.example"], ips(&["10.1.1.1"]));
        assert_eq!(table["localhost"], ips(&["127.0.0.1", "::1"]));
    }

    #[test]
    fn without_addresses_the_hostname_is_loopback() {
        let hosts = Hosts::of_pod(&strings(&["p"]), &[], &[]);
        assert!(hosts.text().ends_with("127.0.0.1\tp\n::1\tp\n"), "{}", hosts.text());
    }

    #[test]
    fn aliases_add_to_any_name() {
        let aliases = [alias("10.1.1.1", &["DB."]), alias("10.1.1.2", &["db"]), alias("10.1.1.1", &["db"])];
        assert_eq!(Hosts::of_pod(&[], &[], &aliases).table()["db"], ips(&["10.1.1.1", "10.1.1.2"]));
    }

    #[test]
    fn the_hosts_own_file_may_hold_anything() {
        let host = "127.0.0.1 localhost # comment\n\n# 10.0.0.1 no\n  10.0.0.2\tA b.example\nnonsense x\n\
                    ::ffff:10.0.0.3 mapped\n10.0.0.4";
        let hosts = Hosts::of_host(host, &[alias("10.1.1.1", &["db"])]);
        assert!(
            hosts.text().starts_with("# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost")
        );
        let table = hosts.table();
        assert_eq!(table["a"], ips(&["10.0.0.2"]));
        assert_eq!(table["b.example"], ips(&["10.0.0.2"]));
        assert_eq!(table["mapped"], ips(&["10.0.0.3"]));
        assert_eq!(table["db"], ips(&["10.1.1.1"]));
        assert!(!table.contains_key("no") && !table.contains_key("x"));
    }
}
