//! `identity`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::PodCtxView;
use super::bindings::peapod::pod::identity::Host;
use crate::spec::NetworkMode;

impl Host for PodCtxView<'_> {
    fn name(&mut self) -> wasmtime::Result<String> {
        Ok(self.about.pod.get().name.clone())
    }

    fn namespace(&mut self) -> wasmtime::Result<String> {
        Ok(self.about.pod.get().namespace.clone())
    }

    fn uid(&mut self) -> wasmtime::Result<String> {
        Ok(self.about.pod.get().uid.clone())
    }

    fn labels(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(pairs(&self.about.pod.get().labels))
    }

    fn annotations(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(pairs(&self.about.pod.get().annotations))
    }

    fn container_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.about.container.clone())
    }

    fn restart_count(&mut self) -> wasmtime::Result<u32> {
        Ok(self.about.restarts)
    }

    fn pod_ips(&mut self) -> wasmtime::Result<Vec<String>> {
        let around = &self.about.around;
        let on_host = self.about.pod.get().network == NetworkMode::Host;
        Ok(text(if on_host { &around.host_ips } else { &around.pod_ips }))
    }

    fn host_ips(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(text(&self.about.around.host_ips))
    }

    fn node_name(&mut self) -> wasmtime::Result<String> {
        Ok(self.about.around.node_name.clone())
    }

    fn service_account(&mut self) -> wasmtime::Result<String> {
        Ok(self.about.pod.get().service_account.clone())
    }
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn text(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}
