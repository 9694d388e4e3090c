//! Variables of Services (`FromServices` in `pkg/kubelet/envvars/envvars.go`).
//!
//! There are no cluster IPs here but those that a manifest gives: a Service without one is told as the pod itself where
//! it selects it, with the ports that the pod answers on.

use std::net::IpAddr;

use super::Surroundings;
use crate::spec::{Pod, Protocol, Service, ServicePort};

/// The variables of all Services of `pod`, in their order; none with `enableServiceLinks: false`.
pub(super) fn variables(pod: &Pod, around: &Surroundings) -> Vec<(String, String)> {
    if !pod.service_links {
        return Vec::new();
    }
    pod.services.iter().filter_map(|service| of_service(service, pod, around)).flatten().collect()
}

fn of_service(service: &Service, pod: &Pod, around: &Surroundings) -> Option<Vec<(String, String)>> {
    let selects = !service.selector.is_empty()
        && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let (address, port): (IpAddr, fn(&ServicePort) -> u16) = match service.cluster_ip {
        Some(address) => (address, |port| port.port),
        None if selects => (*around.pod_ips.first()?, |port| port.target_port),
        None => return None,
    };
    let first = service.ports.first()?;
    let prefix = in_capitals(&service.name);
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_string()),
        (format!("{prefix}_SERVICE_PORT"), port(first).to_string()),
    ];
    for own in &service.ports {
        if let Some(name) = &own.name {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", in_capitals(name)), port(own).to_string()));
        }
    }
    // Those of Docker's links.
    for (index, own) in service.ports.iter().enumerate() {
        let number = port(own);
        let protocol = match own.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let url = format!("{protocol}://{host}:{number}");
        if index == 0 {
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        let prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        variables.extend([
            (prefix.clone(), url),
            (format!("{prefix}_PROTO"), protocol.to_owned()),
            (format!("{prefix}_PORT"), number.to_string()),
            (format!("{prefix}_ADDR"), address.to_string()),
        ]);
    }
    Some(variables)
}

/// `my-db`: `MY_DB`.
fn in_capitals(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Role;
    use crate::testing::spec as testing;

    fn port(name: Option<&str>, protocol: Protocol, port: u16, target_port: u16) -> ServicePort {
        ServicePort { name: name.map(str::to_owned), protocol, port, target_port }
    }

    fn pod(cluster_ip: Option<&str>, selector: &[(&str, &str)]) -> Pod {
        let strings = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let mut pod = testing::pod([testing::container("web", Role::Main)]);
        pod.labels.insert("app".into(), "web".into());
        pod.services = vec![Service {
            name: "my-db".into(),
            cluster_ip: cluster_ip.map(|ip| ip.parse().unwrap()),
            selector: selector.iter().map(strings).collect(),
            ports: vec![
                port(Some("sql-main"), Protocol::Tcp, 5432, 15432),
                port(Some("dns"), Protocol::Udp, 53, 53),
            ],
        }];
        pod
    }

    fn around() -> Surroundings {
        Surroundings { pod_ips: vec!["10.1.0.2".parse().unwrap()], ..Surroundings::default() }
    }

    fn told(pod: &Pod) -> Vec<String> {
        variables(pod, &around()).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_cluster_ip_is_told_as_the_kubelet_does() {
        assert_eq!(
            told(&pod(Some("10.96.0.7"), &[])),
            [
                "MY_DB_SERVICE_HOST=10.96.0.7",
                "MY_DB_SERVICE_PORT=5432",
                "MY_DB_SERVICE_PORT_SQL_MAIN=5432",
                "MY_DB_SERVICE_PORT_DNS=53",
                "MY_DB_PORT=tcp://10.96.0.7:5432",
                "MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.96.0.7",
                "MY_DB_PORT_53_UDP=udp://10.96.0.7:53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_ADDR=10.96.0.7",
            ]
        );
        let v6 = told(&pod(Some("fd00::7"), &[]));
        assert!(v6.contains(&"MY_DB_PORT=tcp://[fd00::7]:5432".to_owned()), "{v6:?}");
        assert!(v6.contains(&"MY_DB_SERVICE_HOST=fd00::7".to_owned()), "{v6:?}");
    }

    #[test]
    fn without_a_cluster_ip_it_is_where_the_pod_answers() {
        let own = told(&pod(None, &[("app", "web")]));
        assert_eq!(own[..2], ["MY_DB_SERVICE_HOST=10.1.0.2", "MY_DB_SERVICE_PORT=15432"]);
        assert!(own.contains(&"MY_DB_PORT_15432_TCP=tcp://10.1.0.2:15432".to_owned()), "{own:?}");
    }

    #[test]
    fn what_is_nowhere_is_not_told() {
        assert!(told(&pod(None, &[("app", "other")])).is_empty());
        assert!(told(&pod(None, &[])).is_empty());
        assert!(variables(&pod(None, &[("app", "web")]), &Surroundings::default()).is_empty());
        let without_links = Pod { service_links: false, ..pod(Some("10.96.0.7"), &[]) };
        assert!(told(&without_links).is_empty());
    }
}
