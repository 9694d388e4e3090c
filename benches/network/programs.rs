//! The measuring guests, built, compiled and linked for each contender.

use std::fmt;
use std::path::Path;

use peapod::container::runner::{Hosts, Program};
use peapod::engine::{Engines, EpochTicker};
use peapod::image::{self, Reference};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2, p3};

#[path = "../../tests/support/mod.rs"]
mod support;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    P2,
    P3,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P2 => "WASI 0.2",
            Self::P3 => "WASI 0.3",
        })
    }
}

/// The data of a store of raw wasmtime.
pub struct Raw {
    pub wasi: WasiCtx,
    pub table: ResourceTable,
}

impl WasiView for Raw {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

pub struct Programs {
    pub ticker: EpochTicker,
    peapod: [Program; 2],
    pub raw_engine: wasmtime::Engine,
    pub raw_p2: p2::bindings::CommandPre<Raw>,
    pub raw_p3: p3::bindings::CommandPre<Raw>,
}

impl Programs {
    pub fn build() -> anyhow::Result<Self> {
        let built = support::guests::build("wasm32-wasip2", &["netbench", "netbench-p3"]);
        let files = [built.join("netbench.wasm"), built.join("netbench_p3.wasm")];
        let engines = Engines::default();
        let hosts = Hosts::new(&engines);
        let store = image::Store::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("network"), &engines)?;
        let link = |path: &Path| anyhow::Ok(hosts.link(&store.load(&Reference::Local(path.to_owned()))?)?);
        let peapod = [link(&files[0])?, link(&files[1])?];

        // As the wasmtime book would have you write it.
        let mut config = wasmtime::Config::new();
        config.wasm_component_model_async(true);
        let raw_engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&raw_engine);
        p2::add_to_linker_async(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        let pre = |path: &Path| {
            let component = Component::from_file(&raw_engine, path)?;
            anyhow::Ok(linker.instantiate_pre(&component)?)
        };
        Ok(Self {
            ticker: EpochTicker::start(&engines)?,
            peapod,
            raw_p2: p2::bindings::CommandPre::new(pre(&files[0])?)?,
            raw_p3: p3::bindings::CommandPre::new(pre(&files[1])?)?,
            raw_engine,
        })
    }

    pub fn peapod(&self, version: Version) -> &Program {
        &self.peapod[version as usize]
    }
}
