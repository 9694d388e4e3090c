//! The WebAssembly engine: one policy for every container.
//!
//! ```text
//! wasm bytes ─► WasiVersion ─► Engines ─► its Engine
//!     └─► code::compile ─► machine code (a file) ─► code::map ─► Component ─► classify ─► World
//!                                                                    │
//!                         Linker ─► imports::check ─► InstancePre ◄──┘
//!                                                        │  in the pod process
//!                                  Store + MemoryLimiter ┘ + EpochTicker
//! ```
//!
//! There is one [`Engine`] for components that need WASI 0.3 and one for those that do not, which is faster. Each is
//! made when it is first needed: as a rule in the single-threaded zygote, and inherited by every pod process
//! that is forked from it; in the pod process for the first command or ephemeral container of the other version.
//! Making one starts no thread, opens no file and touches little memory (most of it is address space, reserved but
//! never written; see [`config`]). Threads start in the pod process only: the [`EpochTicker`] there, one for both
//! engines, the compiler's never in the zygote (see [`crate::image`]).

pub mod classify;
pub mod code;
pub mod config;
pub mod epoch;
pub mod imports;
pub mod limits;
pub mod version;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

pub use classify::{CommandVersion, World, WorldError};
pub use epoch::{EPOCH_TICK, EpochHandle, EpochTicker};
pub use limits::{MemoryAccount, MemoryExceeded, MemoryInUse, MemoryLimiter};
pub use version::{Each, WasiVersion};

/// Why an engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Neither the pool nor on-demand allocation could be set up.
    #[error("cannot set up the WebAssembly engine: {0}")]
    Setup(String),
}

/// How instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// From slots reserved ahead of time: microseconds per instance, no bounds checks in the code.
    Pooled,
    /// From the heap when needed, where the address space for the pool cannot be reserved: slower to
    /// start and, since every access is bounds-checked, slower to run.
    OnDemand,
}

/// The engines of a process. Cloning is cheap: all clones have the same ones.
#[derive(Debug, Clone, Default)]
pub struct Engines(Arc<Each<Engine>>);

impl Engines {
    /// The engine for what needs `version`, made if this is the first.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn get(&self, version: WasiVersion) -> Result<&Engine, EngineError> {
        self.make(version, || Engine::new(version))
    }

    /// [`Engines::get`], by other means.
    pub(crate) fn make(
        &self,
        version: WasiVersion,
        make: impl FnOnce() -> Result<Engine, EngineError>,
    ) -> Result<&Engine, EngineError> {
        self.0.get_or_try(version, make)
    }

    /// Those that were needed so far.
    pub fn made(&self) -> impl Iterator<Item = &Engine> {
        self.0.made()
    }

    /// What the user should know about them on this machine: the same of both.
    pub fn warning(&self) -> Option<&str> {
        self.made().find_map(Engine::warning)
    }
}

/// A `wasmtime::Engine` with peapod's policy. Cloning it is cheap: all clones are one engine.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    version: WasiVersion,
    allocation: Allocation,
    warning: Option<String>,
}

impl Engine {
    /// Makes an engine for what needs `version`: pooled, else on demand with a [`Engine::warning`].
    ///
    /// # Errors
    /// The kernel gives no memory for either.
    pub fn new(version: WasiVersion) -> Result<Self, EngineError> {
        match wasmtime::Engine::new(&config::pooled(version)) {
            Ok(inner) => Ok(Self { inner, version, allocation: Allocation::Pooled, warning: None }),
            Err(refused) => Self::on_demand(version, &format!("{refused:#}")),
        }
    }

    /// An engine without a pool, `because` of what is said there.
    pub(crate) fn on_demand(version: WasiVersion, because: &str) -> Result<Self, EngineError> {
        let inner = wasmtime::Engine::new(&config::on_demand(version))
            .map_err(|error| EngineError::Setup(format!("{error:#}; without the pool because: {because}")))?;
        let warning = format!(
            "no address space for the instance pool ({because}): containers start and run slower; \
             lift the limit (ulimit -v unlimited, vm.overcommit_memory=0)"
        );
        Ok(Self { inner, version, allocation: Allocation::OnDemand, warning: Some(warning) })
    }

    /// The engine that linkers, stores and components are made with.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// What its components need.
    pub fn version(&self) -> WasiVersion {
        self.version
    }

    /// How instances get their memory.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    /// What the user should know about this engine on this machine; `None` when all is as it should be.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Names everything besides the input bytes that decides what compiled code looks like: wasmtime's
    /// version, the configuration, the CPU's features, peapod's own `salt`. 16 hexadecimal digits.
    /// Different builds of peapod may give the same things different names; that costs a compilation.
    pub fn code_key(&self, salt: impl Hash) -> String {
        let mut hasher = DefaultHasher::new();
        self.inner.precompile_compatibility_hash().hash(&mut hasher);
        salt.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("version", &self.version)
            .field("allocation", &self.allocation)
            .field("warning", &self.warning)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_says_why_and_has_its_own_code() {
        let pooled = Engine::new(WasiVersion::V02).unwrap();
        let on_demand = Engine::on_demand(WasiVersion::V02, "the test says so").unwrap();
        assert_eq!(pooled.allocation(), Allocation::Pooled);
        assert_eq!(pooled.warning(), None);
        assert_eq!(on_demand.allocation(), Allocation::OnDemand);
        assert!(on_demand.warning().unwrap().contains("the test says so"));
        assert_ne!(pooled.code_key(1), on_demand.code_key(1), "the code differs: bounds checks");
        assert_ne!(pooled.code_key(1), pooled.code_key(2));
        assert_eq!(pooled.code_key(1), Engine::new(WasiVersion::V02).unwrap().code_key(1));
    }

    #[test]
    fn a_component_of_an_interpreters_size_fits_the_pool() {
        let engine = Engine::new(WasiVersion::V02).unwrap();
        let instances: String = (0..60).map(|n| format!("(core instance $i{n} (instantiate $m))")).collect();
        let text = format!(
            r#"(component
                (core module $big (memory 600) (table 150000 funcref) (data (i32.const 30000000) "the end"))
                (core instance (instantiate $big))
                (core module $m (memory 1) (table 100 funcref) (func (export "f")))
                {instances})"#
        );
        let binary = wat::parse_str(text).unwrap();
        let component = wasmtime::component::Component::new(engine.wasmtime(), binary).unwrap();
        let mut store =
            wasmtime::Store::new(engine.wasmtime(), MemoryLimiter::new(Arc::new(MemoryAccount::new(None))));
        store.limiter(|limiter| limiter);
        let linker = wasmtime::component::Linker::new(engine.wasmtime());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(linker.instantiate_async(&mut store, &component)).unwrap();
        assert_eq!(store.data().used(), (600 + 60) * 65536 + (150_000 + 60 * 100) * 8);
    }
}
