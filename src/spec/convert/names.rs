//! What the pod is called and how it resolves names: `hostname`, `subdomain`, `setHostnameAsFQDN`,
//! `hostnameOverride`, `hostAliases`, `dnsPolicy`, `dnsConfig`.
//!
//! The checks and their words are the API server's (`validatePodDNSConfig` and others in
//! `pkg/apis/core/validation/validation.go`).

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as wire;

use super::report::{Report, is_set, items};
use crate::manifest::FieldPath;
use crate::spec::dns::{CLUSTER_DOMAIN, Dns, DnsOption, DnsPolicy};
use crate::spec::{HostAlias, name};

/// Linux' limit of a hostname, bytes (`HOST_NAME_MAX`, gethostname(2)).
const MAX_HOSTNAME_BYTES: usize = 64;

/// glibc's limit of nameservers (`MAXNS`, resolv.conf(5)), and so Kubernetes'.
pub const MAX_NAMESERVERS: usize = 3;
/// Kubernetes' limit of search domains (`MaxDNSSearchPaths`).
pub const MAX_SEARCHES: usize = 32;
/// Kubernetes' limit of the line of search domains, bytes (`MaxDNSSearchListChars`).
pub const MAX_SEARCH_BYTES: usize = 2048;

/// The options of resolv.conf(5) and whether they have a value. The last few change nothing here: each query
/// has a socket of its own, and nothing is verified or sorted but as always.
const OPTIONS: [(&str, bool); 13] = [
    ("ndots", true),
    ("timeout", true),
    ("attempts", true),
    ("rotate", false),
    ("edns0", false),
    ("use-vc", false),
    ("no-aaaa", false),
    ("single-request", false),
    ("single-request-reopen", false),
    ("no-check-names", false),
    ("no-tld-query", false),
    ("no-reload", false),
    ("trust-ad", false),
];

/// The fields of `spec` that this is about.
pub(super) struct Fields<'a> {
    pub(super) hostname: &'a Option<String>,
    pub(super) hostname_override: &'a Option<String>,
    pub(super) subdomain: &'a Option<String>,
    pub(super) set_hostname_as_fqdn: Option<bool>,
    pub(super) dns_policy: Option<&'a str>,
    pub(super) dns_config: Option<&'a wire::PodDNSConfig>,
}

/// What the pod is called.
pub(super) struct Names {
    /// The UTS hostname.
    pub(super) hostname: String,
    pub(super) subdomain: Option<String>,
    pub(super) dns: Dns,
}

fn given(text: &Option<String>) -> Option<&String> {
    text.as_ref().filter(|text| !text.is_empty())
}

pub(super) fn convert(
    fields: &Fields<'_>,
    pod_name: &str,
    namespace: &str,
    path: &FieldPath,
    report: &mut Report,
) -> Names {
    let given_hostname = given(fields.hostname);
    if let Some(hostname) = given_hostname {
        report.check(&path.field("hostname"), name::label(hostname));
    }
    let subdomain = given(fields.subdomain).cloned();
    if let Some(subdomain) = &subdomain {
        report.check(&path.field("subdomain"), name::label(subdomain));
    }
    let config = fields.dns_config;
    let config_path = path.field("dnsConfig");
    let dns = Dns {
        hostname: given_hostname.cloned().unwrap_or_else(|| name::hostname(pod_name)),
        domain: subdomain.as_ref().map(|sub| format!("{sub}.{namespace}.svc.{CLUSTER_DOMAIN}")),
        policy: dns_policy(fields.dns_policy, config, path, report),
        nameservers: config.map(|c| nameservers(c, &config_path, report)).unwrap_or_default(),
        searches: config.map(|c| searches(c, &config_path, report)).unwrap_or_default(),
        options: config.map(|c| options(c, &config_path, report)).unwrap_or_default(),
    };
    let hostname = uts_hostname(fields, &dns, path, report);
    Names { hostname, subdomain, dns }
}

/// `GetNodenameForKernel` in `pkg/kubelet/util/util.go`.
fn uts_hostname(fields: &Fields<'_>, dns: &Dns, path: &FieldPath, report: &mut Report) -> String {
    let as_fqdn = fields.set_hostname_as_fqdn == Some(true);
    if let Some(hostname) = given(fields.hostname_override) {
        let override_path = path.field("hostnameOverride");
        if report.check(&override_path, name::subdomain(hostname)) && hostname.len() > MAX_HOSTNAME_BYTES {
            report.error(&override_path, format_args!("must be no more than {MAX_HOSTNAME_BYTES} bytes"));
        }
        if as_fqdn {
            report.error(&override_path, "may not be specified when setHostnameAsFQDN is true");
        }
        return hostname.clone();
    }
    match dns.fqdn().filter(|_| as_fqdn) {
        Some(fqdn) => {
            if fqdn.len() > MAX_HOSTNAME_BYTES {
                report.error(
                    &path.field("setHostnameAsFQDN"),
                    format_args!(
                        "the FQDN {fqdn} is too long for a hostname ({MAX_HOSTNAME_BYTES} characters is the \
                         max, it has {}); shorten hostname, subdomain or namespace",
                        fqdn.len()
                    ),
                );
            }
            fqdn
        }
        None => dns.hostname.clone(),
    }
}

fn dns_policy(
    policy: Option<&str>,
    config: Option<&wire::PodDNSConfig>,
    path: &FieldPath,
    report: &mut Report,
) -> DnsPolicy {
    let choices = [
        ("ClusterFirst", DnsPolicy::ClusterFirst),
        ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
        ("Default", DnsPolicy::Default),
        ("None", DnsPolicy::None),
    ];
    let policy =
        policy.and_then(|text| report.choice(&path.field("dnsPolicy"), text, &choices)).unwrap_or_default();
    if policy == DnsPolicy::None {
        match config {
            None => report.error(
                &path.field("dnsConfig"),
                "required; must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            Some(config) if !is_set(&config.nameservers) => report.error(
                &path.field("dnsConfig").field("nameservers"),
                "required; must provide at least one DNS nameserver when `dnsPolicy` is None",
            ),
            Some(_) => {}
        }
    }
    policy
}

fn nameservers(config: &wire::PodDNSConfig, path: &FieldPath, report: &mut Report) -> Vec<IpAddr> {
    let path = path.field("nameservers");
    let texts = items(&config.nameservers);
    if texts.len() > MAX_NAMESERVERS {
        report.error(&path, format_args!("must not have more than {MAX_NAMESERVERS} nameservers"));
    }
    let mut nameservers = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        nameservers.extend(address(text, &path.index(index), report));
    }
    nameservers
}

fn searches(config: &wire::PodDNSConfig, path: &FieldPath, report: &mut Report) -> Vec<String> {
    let path = path.field("searches");
    let texts = items(&config.searches);
    if texts.len() > MAX_SEARCHES {
        report.error(&path, format_args!("must not have more than {MAX_SEARCHES} search paths"));
    }
    // With the spaces between them.
    if texts.iter().map(|text| text.len() + 1).sum::<usize>() > MAX_SEARCH_BYTES + 1 {
        report.error(
            &path,
            format_args!(
                "must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list"
            ),
        );
    }
    let mut searches = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        // The root alone, or a domain whose labels may begin with '_' (RelaxedDNSSearchValidation).
        let domain = if text == "." { text } else { text.strip_suffix('.').unwrap_or(text) };
        if domain != "." {
            report.check(&path.index(index), name::subdomain(&domain.replace('_', "a")));
        }
        searches.push(domain.to_owned());
    }
    searches
}

fn options(config: &wire::PodDNSConfig, path: &FieldPath, report: &mut Report) -> Vec<DnsOption> {
    let mut options = Vec::new();
    for (index, option) in items(&config.options).iter().enumerate() {
        let path = path.field("options").index(index);
        let wire::PodDNSConfigOption { name, value } = option;
        let Some(name) = given(name) else {
            report.error(&path.field("name"), "required; must not be empty");
            continue;
        };
        let value = given(value).cloned();
        match (OPTIONS.iter().find(|(known, _)| known == name), &value) {
            (None, _) => {
                let hint = crate::manifest::hint(name, OPTIONS.iter().map(|(known, _)| *known));
                report.warn(&path, format_args!("ignored: resolv.conf(5) has no option {name:?}{hint}"));
            }
            (Some((_, true)), value) if value.as_deref().is_none_or(|v| v.parse::<u32>().is_err()) => {
                report.warn(&path, format_args!("ignored: the option {name} needs a number as its value"));
            }
            _ => {}
        }
        // One line of a file.
        if name
            .chars()
            .chain(value.iter().flat_map(|v| v.chars()))
            .any(|c| c.is_whitespace() || c.is_control())
        {
            report.error(&path, "must not hold spaces or control characters");
        }
        options.push(DnsOption { name: name.clone(), value });
    }
    options
}

pub(super) fn host_aliases(
    list: &[wire::HostAlias],
    path: &FieldPath,
    report: &mut Report,
) -> Vec<HostAlias> {
    let mut aliases = Vec::new();
    for (index, alias) in list.iter().enumerate() {
        let path = path.index(index);
        let wire::HostAlias { hostnames, ip } = alias;
        let hostnames = items(hostnames);
        for (at, hostname) in hostnames.iter().enumerate() {
            report.check(&path.field("hostnames").index(at), name::subdomain(hostname));
        }
        let ip = address(ip, &path.field("ip"), report);
        aliases.extend(ip.map(|ip| HostAlias { ip, hostnames: hostnames.to_vec() }));
    }
    aliases
}

fn address(text: &str, path: &FieldPath, report: &mut Report) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        report.error(
            path,
            format_args!(
                "invalid value {text:?}: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            ),
        );
    }
    address
}
