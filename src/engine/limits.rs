//! The memory limit of one container.
//!
//! ```text
//! store of the run  ─ MemoryLimiter ─┐
//! store of an exec  ─ MemoryLimiter ─┴─► MemoryAccount of the container ─► MemoryAccount of the pod
//!                                        (resources.limits.memory)         (spec.resources.limits.memory)
//! ```
//!
//! Kubernetes' `resources.limits.memory` is for the container as a whole, so all linear memories and tables of
//! all its stores are summed up in one account, which lives longer than they do; where the pod as a whole has a
//! limit, what its containers have is summed up in the pod's account as well. Memory that a component *starts*
//! with counts too. A limit may change while the account is in use.
//!
//! Beyond the limit the container **ends**, with reason `OOMKilled` and exit code 137, as under a
//! cgroup: the growth is an error that unwinds the guest like a trap. (WebAssembly's own answer, a
//! `memory.grow` of -1, would surface as some allocator's panic and exit code 134.) The runner asks
//! [`MemoryLimiter::exceeded`], or looks for a [`MemoryExceeded`] in the error.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::config;

/// Bytes of one table element (<https://docs.rs/wasmtime/48/wasmtime/trait.ResourceLimiter.html>).
const TABLE_ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// A limit that no use reaches: none.
const UNLIMITED: u64 = u64::MAX;

/// A container wanted more memory than its limit, or its pod's. Carried by the error that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory limit exceeded: {} of linear memory and tables wanted, the {}limit is {}",
    Bytes(*.wanted), if *.of_pod { "pod's " } else { "" }, Bytes(*.limit)
)]
pub struct MemoryExceeded {
    /// Bytes that the container, or all of the pod's, would have had.
    pub wanted: u64,
    /// Bytes that it may have.
    pub limit: u64,
    /// Whether the limit is the pod's (`spec.resources`), which its containers share.
    pub of_pod: bool,
}

/// A limit cannot be lowered to less than what is in use: guests never give memory back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("memory limit {} is below the {} in use", Bytes(*.limit), Bytes(*.used))]
pub struct MemoryInUse {
    /// The limit that was wanted, bytes.
    pub limit: u64,
    /// What is in use, bytes.
    pub used: u64,
}

/// The memory that a container, or a pod, has and may have.
#[derive(Debug)]
pub struct MemoryAccount {
    limit: AtomicU64,
    used: AtomicU64,
    /// The pod's, which is charged as well.
    pod: Option<Arc<Self>>,
}

impl MemoryAccount {
    /// An account of `limit` bytes; `None`: no limit but the pool's.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit: AtomicU64::new(limit.unwrap_or(UNLIMITED)), used: AtomicU64::new(0), pod: None }
    }

    /// A container's account in its pod's.
    pub fn in_pod(pod: &Arc<Self>, limit: Option<u64>) -> Self {
        Self { pod: Some(Arc::clone(pod)), ..Self::new(limit) }
    }

    /// Bytes that may be used.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(SeqCst)).filter(|limit| *limit != UNLIMITED)
    }

    /// Bytes of linear memory and tables in use.
    pub fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    /// Changes the limit.
    ///
    /// # Errors
    /// More is in use: the limit stays as it was. (The kubelet does not shrink a cgroup below its use either:
    /// `validateMemoryResizeAction` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`.)
    pub fn set_limit(&self, limit: Option<u64>) -> Result<(), MemoryInUse> {
        let (limit, used) = (limit.unwrap_or(UNLIMITED), self.used());
        if limit < used && limit < self.limit.load(SeqCst) {
            return Err(MemoryInUse { limit, used });
        }
        self.limit.store(limit, SeqCst);
        Ok(())
    }

    /// Takes `bytes` of this account and of its pod's, or of none.
    fn take(&self, bytes: u64) -> Result<(), MemoryExceeded> {
        let limit = self.limit.load(SeqCst);
        let allowed = |used: u64| used.checked_add(bytes).filter(|wanted| bytes == 0 || *wanted <= limit);
        self.used.fetch_update(SeqCst, SeqCst, allowed).map_err(|used| MemoryExceeded {
            wanted: used.saturating_add(bytes),
            limit,
            of_pod: false,
        })?;
        let Some(pod) = &self.pod else { return Ok(()) };
        pod.take(bytes).map_err(|exceeded| {
            self.used.fetch_sub(bytes, SeqCst);
            MemoryExceeded { of_pod: true, ..exceeded }
        })
    }

    /// Gives back what was taken.
    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, SeqCst);
        if let Some(pod) = &self.pod {
            pod.give_back(bytes);
        }
    }
}

/// Charges the memory of one store to an account, until it is dropped with the store. Give it to `Store::limiter`.
#[derive(Debug)]
pub struct MemoryLimiter {
    account: Arc<MemoryAccount>,
    used: u64,
    /// What the last growth added, in case it fails after it was allowed.
    last_growth: u64,
    exceeded: Option<MemoryExceeded>,
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.account.give_back(self.used);
    }
}

impl MemoryLimiter {
    /// A limiter for a store of the account's container.
    pub fn new(account: Arc<MemoryAccount>) -> Self {
        Self { account, used: 0, last_growth: 0, exceeded: None }
    }

    /// Bytes of linear memory and tables that the store has.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The growth that ended the container, if one did.
    pub fn exceeded(&self) -> Option<MemoryExceeded> {
        self.exceeded
    }

    /// Adds `growth` bytes, or records and returns why not.
    fn add(&mut self, growth: u64) -> Result<(), MemoryExceeded> {
        self.account.take(growth).inspect_err(|exceeded| self.exceeded = Some(*exceeded))?;
        self.used += growth;
        self.last_growth = growth;
        Ok(())
    }

    /// A growth that [`MemoryLimiter::add`] allowed did not happen after all.
    fn take_back(&mut self) {
        let growth = std::mem::take(&mut self.last_growth);
        self.used -= growth;
        self.account.give_back(growth);
    }

    /// One growth of a memory or table whose units are `unit` bytes. `Ok(false)`: it could never have
    /// that size, the guest gets its -1.
    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        unit: u64,
    ) -> wasmtime::Result<bool> {
        // The previous growth has succeeded, otherwise it had been taken back by now.
        self.last_growth = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let growth = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        self.add(growth)?;
        Ok(true)
    }
}

impl wasmtime::ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, 1)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let maximum = maximum.unwrap_or(usize::MAX).min(config::TABLE_ELEMENTS);
        self.grow(current, desired, Some(maximum), TABLE_ELEMENT_BYTES)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        config::CORE_INSTANCES_PER_COMPONENT as usize
    }

    fn memories(&self) -> usize {
        config::MEMORIES_PER_COMPONENT as usize
    }

    fn tables(&self) -> usize {
        config::TABLES_PER_COMPONENT as usize
    }
}

/// Bytes as a reader wants them.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 20 => write!(f, "{:.1} MiB", n as f64 / f64::from(1 << 20)),
            n if n >= 1 << 10 => write!(f, "{:.1} KiB", n as f64 / f64::from(1 << 10)),
            n => write!(f, "{n} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::ResourceLimiter;
    use wasmtime::component::{Component, Linker};

    use super::*;
    use crate::engine::{Engine, WasiVersion};

    const MIB: u64 = 1 << 20;

    fn limiter_of(limit: Option<u64>) -> MemoryLimiter {
        MemoryLimiter::new(Arc::new(MemoryAccount::new(limit)))
    }

    /// Runs a component that starts with 1 MiB in each of `memories` memories and grows them for ever.
    fn run_growing(engine: &Engine, limit: u64, memories: usize) -> (MemoryLimiter, wasmtime::Error) {
        let declared: String = (0..memories).map(|n| format!("(memory $m{n} 16)")).collect();
        let grown: String =
            (0..memories).map(|n| format!("(drop (memory.grow $m{n} (i32.const 4)))")).collect();
        let text = format!(
            r#"(component
                (core module $m {declared} (func (export "grow") (loop {grown} (br 0))))
                (core instance $i (instantiate $m))
                (func (export "grow") (canon lift (core func $i "grow"))))"#
        );
        let component = Component::new(engine.wasmtime(), wat::parse_str(text).unwrap()).unwrap();
        let mut store = wasmtime::Store::new(engine.wasmtime(), limiter_of(Some(limit)));
        store.limiter(|limiter| limiter);
        store.set_epoch_deadline(u64::MAX / 2);
        let linker = Linker::new(engine.wasmtime());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(async {
            let instance = linker.instantiate_async(&mut store, &component).await?;
            let grow = instance.get_typed_func::<(), ()>(&mut store, "grow")?;
            grow.call_async(&mut store, ()).await
        });
        (store.into_data(), error.unwrap_err())
    }

    #[test]
    fn a_guest_that_grows_for_ever_ends_with_the_reason() {
        for version in WasiVersion::ALL {
            for engine in [Engine::new(version).unwrap(), Engine::on_demand(version, "a test").unwrap()] {
                let (limiter, error) = run_growing(&engine, 8 * MIB, 2);
                let exceeded = *error.downcast_ref::<MemoryExceeded>().unwrap_or_else(|| panic!("{error:?}"));
                assert_eq!(limiter.exceeded(), Some(exceeded));
                assert_eq!(exceeded.limit, 8 * MIB);
                assert_eq!(limiter.used(), 8 * MIB, "all that fits was given, to both memories together");
                assert!(format!("{error:?}").contains("wasm backtrace"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_limit_below_what_a_component_starts_with_is_the_same_reason() {
        let (limiter, error) = run_growing(&Engine::new(WasiVersion::V02).unwrap(), MIB / 2, 1);
        assert_eq!(
            error.downcast_ref(),
            Some(&MemoryExceeded { wanted: MIB, limit: MIB / 2, of_pod: false })
        );
        assert_eq!(limiter.used(), 0);
        assert!(
            error.downcast_ref::<MemoryExceeded>().unwrap().to_string().contains("the limit is 512.0 KiB")
        );
    }

    #[test]
    fn growth_that_fails_after_all_is_taken_back() {
        let mut limiter = limiter_of(Some(10 * MIB));
        let mib = MIB as usize;
        assert!(limiter.memory_growing(0, 4 * mib, None).unwrap());
        assert!(limiter.memory_growing(4 * mib, 8 * mib, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no pages")).unwrap();
        assert_eq!((limiter.used(), limiter.account.used()), (4 * MIB, 4 * MIB));
        assert!(
            !limiter.memory_growing(4 * mib, 9 * mib, Some(8 * mib)).unwrap(),
            "beyond the module's own maximum"
        );
        limiter.memory_grow_failed(wasmtime::Error::msg("beyond the maximum")).unwrap();
        assert_eq!(limiter.used(), 4 * MIB);
        assert_eq!(limiter.exceeded(), None);
    }

    #[test]
    fn tables_count_and_are_bounded() {
        let mut limiter = limiter_of(None);
        assert!(limiter.table_growing(0, 1000, None).unwrap());
        assert_eq!(limiter.used(), 8000);
        assert!(!limiter.table_growing(1000, config::TABLE_ELEMENTS + 1, None).unwrap());
        let mut limiter = limiter_of(Some(100));
        assert!(limiter.table_growing(0, 1000, None).is_err());
    }

    #[test]
    fn all_stores_of_a_container_share_its_account_and_all_containers_the_pods() {
        let mib = MIB as usize;
        let pod = Arc::new(MemoryAccount::new(Some(10 * MIB)));
        let web = Arc::new(MemoryAccount::in_pod(&pod, Some(8 * MIB)));
        let log = Arc::new(MemoryAccount::in_pod(&pod, None));
        let mut run = MemoryLimiter::new(Arc::clone(&web));
        let mut exec = MemoryLimiter::new(Arc::clone(&web));
        let mut other = MemoryLimiter::new(Arc::clone(&log));
        assert!(run.memory_growing(0, 5 * mib, None).unwrap());
        exec.memory_growing(0, 4 * mib, None).unwrap_err();
        assert_eq!(exec.exceeded(), Some(MemoryExceeded { wanted: 9 * MIB, limit: 8 * MIB, of_pod: false }));
        assert!(exec.memory_growing(0, 3 * mib, None).unwrap());
        other.memory_growing(0, 3 * mib, None).unwrap_err();
        let exceeded = other.exceeded().unwrap();
        assert_eq!(exceeded, MemoryExceeded { wanted: 11 * MIB, limit: 10 * MIB, of_pod: true });
        assert!(exceeded.to_string().ends_with("the pod's limit is 10.0 MiB"), "{exceeded}");
        assert_eq!((web.used(), log.used(), pod.used()), (8 * MIB, 0, 8 * MIB));
        drop(exec);
        assert!(other.memory_growing(0, 3 * mib, None).unwrap());
        drop((run, other));
        assert_eq!((web.used(), log.used(), pod.used()), (0, 0, 0));
    }

    #[test]
    fn a_limit_changes_while_it_is_in_use_but_not_to_less_than_that() {
        let account = Arc::new(MemoryAccount::new(Some(4 * MIB)));
        let mut limiter = MemoryLimiter::new(Arc::clone(&account));
        let mib = MIB as usize;
        assert!(limiter.memory_growing(0, 4 * mib, None).unwrap());
        assert_eq!(account.set_limit(Some(2 * MIB)), Err(MemoryInUse { limit: 2 * MIB, used: 4 * MIB }));
        assert_eq!(account.limit(), Some(4 * MIB));
        account.set_limit(Some(6 * MIB)).unwrap();
        assert!(limiter.memory_growing(4 * mib, 6 * mib, None).unwrap());
        account.set_limit(None).unwrap();
        assert!(limiter.memory_growing(6 * mib, 9 * mib, None).unwrap());
        drop(limiter);
        account.set_limit(Some(2 * MIB)).unwrap();
        assert_eq!((account.limit(), account.used()), (Some(2 * MIB), 0));
    }
}
