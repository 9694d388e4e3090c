//! Instantiating a component: peapod's engine against bare wasmtime, in one run on one machine.
//!
//! Both loops do the same to the same component: a fresh `Store`, an instance from an `InstancePre`, and
//! drop both. The bare one is what the wasmtime book would have you write: a default configuration with
//! nothing but async, with its default pool and on demand. peapod adds what a container always has, the
//! memory limiter and an epoch deadline. The rounds alternate, so that a busy machine slows all down
//! alike; the ratio of the medians is what counts.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use peapod::engine::{Engine, MemoryAccount, MemoryLimiter, WasiVersion};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// Instances per round: long enough that the clock does not matter.
const BATCH: u32 = 200;
/// Rounds of each contender.
const ROUNDS: usize = 60;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A component like a small guest: memory with data, a table, a few functions.
const COMPONENT: &str = r#"(component
    (core module $m
        (memory (export "memory") 17)
        (table 64 funcref)
        (elem (i32.const 1) $a $b)
        (func $a (result i32) (i32.const 1))
        (func $b (result i32) (i32.const 2))
        (data (i32.const 1048576) "some data of a guest")
        (func (export "run") (result i32) (i32.const 0)))
    (core instance $i (instantiate $m))
    (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;

/// One engine with its component, ready to instantiate.
struct Contender {
    name: &'static str,
    pre: InstancePre<MemoryLimiter>,
    limited: bool,
    rounds: Vec<Duration>,
}

impl Contender {
    fn new(name: &'static str, engine: &wasmtime::Engine, limited: bool) -> Result<Self> {
        let component = Component::new(engine, wat::parse_str(COMPONENT)?)?;
        let pre = Linker::new(engine).instantiate_pre(&component)?;
        Ok(Self { name, pre, limited, rounds: Vec::with_capacity(ROUNDS) })
    }

    async fn round(&mut self) -> Result<()> {
        let account = Arc::new(MemoryAccount::new(Some(64 << 20)));
        let start = Instant::now();
        for _ in 0..BATCH {
            let mut store = Store::new(self.pre.engine(), MemoryLimiter::new(Arc::clone(&account)));
            if self.limited {
                store.limiter(|limiter| limiter);
                store.set_epoch_deadline(1);
                store.epoch_deadline_async_yield_and_update(1);
            }
            self.pre.instantiate_async(&mut store).await?;
        }
        self.rounds.push(start.elapsed() / BATCH);
        Ok(())
    }

    /// The median of all rounds.
    fn median(&mut self) -> Duration {
        self.rounds.sort_unstable();
        self.rounds[self.rounds.len() / 2]
    }
}

fn main() -> Result<()> {
    let ours = Engine::new(WasiVersion::V02)?;
    let mut pool = Config::new();
    pool.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
    let mut contenders = [
        Contender::new("wasmtime, default pool", &wasmtime::Engine::new(&pool)?, false)?,
        Contender::new("wasmtime, on demand", &wasmtime::Engine::new(&Config::new())?, false)?,
        Contender::new("peapod", ours.wasmtime(), true)?,
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            for contender in &mut contenders {
                contender.round().await?;
            }
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let medians = contenders.each_mut().map(|contender| (contender.name, contender.median()));
    let (_, ours) = medians[2];
    println!("instantiate and drop, median of {ROUNDS} rounds of {BATCH}");
    for (name, median) in medians {
        let ratio = ours.as_secs_f64() / median.as_secs_f64();
        println!("  {name:<24} {:>8.2} µs   peapod / this = {ratio:.2}", median.as_secs_f64() * 1e6);
    }
    Ok(())
}
