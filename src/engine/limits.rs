//! The memory limit of one container.
//!
//! Kubernetes' `resources.limits.memory` is for the container as a whole, so the limiter sums up all
//! linear memories and tables of its store. Memory that a component *starts* with counts as well.
//!
//! Beyond the limit the container **ends**, with reason `OOMKilled` and exit code 137, as under a
//! cgroup: the growth is an error that unwinds the guest like a trap. (WebAssembly's own answer, a
//! `memory.grow` of -1, would surface as some allocator's panic and exit code 134.) The runner asks
//! [`MemoryLimiter::exceeded`], or looks for a [`MemoryExceeded`] in the error.

use std::fmt;

use super::config;

/// Bytes of one table element (<https://docs.rs/wasmtime/48/wasmtime/trait.ResourceLimiter.html>).
const TABLE_ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// A container wanted more memory than its limit. Carried by the error that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("memory limit exceeded: {} of linear memory and tables wanted, the limit is {}", Bytes(*.wanted), Bytes(*.limit))]
pub struct MemoryExceeded {
    /// Bytes that the container would have had.
    pub wanted: u64,
    /// Bytes that it may have.
    pub limit: u64,
}

/// Limits and counts the memory of one store. Give it to `Store::limiter`.
#[derive(Debug, Clone)]
pub struct MemoryLimiter {
    limit: Option<u64>,
    used: u64,
    peak: u64,
    /// What the last growth added, in case it fails after it was allowed.
    last_growth: u64,
    exceeded: Option<MemoryExceeded>,
}

impl MemoryLimiter {
    /// A limiter for `limit` bytes; `None`: no limit but the pool's.
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit, used: 0, peak: 0, last_growth: 0, exceeded: None }
    }

    /// Bytes that the container may have.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Bytes of linear memory and tables that the container has. Guests never give memory back.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The most that [`MemoryLimiter::used`] ever was.
    pub fn peak(&self) -> u64 {
        self.peak.max(self.used)
    }

    /// The growth that ended the container, if one did.
    pub fn exceeded(&self) -> Option<MemoryExceeded> {
        self.exceeded
    }

    /// Adds `growth` bytes, or records and returns why not.
    fn add(&mut self, growth: u64) -> Result<(), MemoryExceeded> {
        let wanted = self.used.saturating_add(growth);
        if let Some(limit) = self.limit.filter(|limit| wanted > *limit) {
            let exceeded = MemoryExceeded { wanted, limit };
            self.exceeded = Some(exceeded);
            return Err(exceeded);
        }
        self.used = wanted;
        self.last_growth = growth;
        Ok(())
    }

    /// A growth that [`MemoryLimiter::add`] allowed did not happen after all.
    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last_growth));
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
        self.peak = self.peak();
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.last_growth = 0;
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
    use crate::engine::Engine;

    const MIB: u64 = 1 << 20;

    /// Runs a component that starts with 1 MiB in each of `memories` memories and grows them for ever.
    fn run_growing(engine: &Engine, limit: Option<u64>, memories: usize) -> (MemoryLimiter, wasmtime::Error) {
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
        let mut store = wasmtime::Store::new(engine.wasmtime(), MemoryLimiter::new(limit));
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
        for engine in [Engine::new().unwrap(), Engine::on_demand("a test").unwrap()] {
            let (limiter, error) = run_growing(&engine, Some(8 * MIB), 2);
            let exceeded = *error.downcast_ref::<MemoryExceeded>().unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!(limiter.exceeded(), Some(exceeded));
            assert_eq!(exceeded.limit, 8 * MIB);
            assert_eq!(limiter.used(), 8 * MIB, "all that fits was given, to both memories together");
            assert!(format!("{error:?}").contains("wasm backtrace"), "{error:?}");
        }
    }

    #[test]
    fn a_limit_below_what_a_component_starts_with_is_the_same_reason() {
        let (limiter, error) = run_growing(&Engine::new().unwrap(), Some(MIB / 2), 1);
        assert_eq!(error.downcast_ref(), Some(&MemoryExceeded { wanted: MIB, limit: MIB / 2 }));
        assert_eq!(limiter.used(), 0);
        assert!(
            error.downcast_ref::<MemoryExceeded>().unwrap().to_string().contains("the limit is 512.0 KiB")
        );
    }

    #[test]
    fn growth_that_fails_after_all_is_taken_back() {
        let mut limiter = MemoryLimiter::new(Some(10 * MIB));
        let mib = MIB as usize;
        assert!(limiter.memory_growing(0, 4 * mib, None).unwrap());
        assert!(limiter.memory_growing(4 * mib, 8 * mib, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no pages")).unwrap();
        assert_eq!((limiter.used(), limiter.peak()), (4 * MIB, 4 * MIB));
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
        let mut limiter = MemoryLimiter::new(None);
        assert!(limiter.table_growing(0, 1000, None).unwrap());
        assert_eq!(limiter.used(), 8000);
        assert!(!limiter.table_growing(1000, config::TABLE_ELEMENTS + 1, None).unwrap());
        let mut limiter = MemoryLimiter::new(Some(100));
        assert!(limiter.table_growing(0, 1000, None).is_err());
    }
}
