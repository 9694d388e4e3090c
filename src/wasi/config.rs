//! `wasi:config/store`: a container's configuration, by wasmtime's own host.
//!
//! ```text
//!  peapod.dev/config.<container>: a, b ─► data of ConfigMap a, of b over it ─┐ as they are at the call
//!  env, envFrom ─────────────────────────► variables over both ──────────────┴─► get, get-all
//! ```
//!
//! A guest finds there what an operator would otherwise give it as variables or files. Each call sees the ConfigMaps as
//! they are then; variables are those of the container's start.

use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use crate::container::about::About;
use crate::spec::Pod;

/// A container's configuration.
pub struct ConfigCtx {
    about: Arc<About>,
    variables: WasiConfigVariables,
    /// What `variables` were made from.
    pod: Option<Arc<Pod>>,
}

impl ConfigCtx {
    /// That of one run.
    pub fn new(about: Arc<About>) -> Self {
        Self { about, variables: WasiConfigVariables::new(), pod: None }
    }

    /// What it is now.
    pub fn now(&mut self) -> WasiConfig<'_> {
        let pod = self.about.pod.get();
        if !self.pod.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &pod)) {
            self.variables = self.about.configuration(&pod).collect();
            self.pod = Some(pod);
        }
        WasiConfig::new(&self.variables)
    }
}

/// A store's data that has a configuration.
pub trait ConfigView: Send {
    /// Access to it.
    fn config(&mut self) -> WasiConfig<'_>;
}

/// Adds `wasi:config` to the linker.
///
/// # Errors
/// As [`crate::wasi::add_to_linker`].
pub fn add_to_linker<T: ConfigView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, T::config)
}
