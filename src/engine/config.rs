//! The engine's policy: what guests may use and what is reserved for them.
//!
//! Nearly everything the pool reserves is address space: the kernel hands out a page when it is first
//! written, and a reservation that was never written costs a fork nothing. What a fork does pay for is
//! the number of separate mappings, and every fiber stack is two (the stack and its guard page): that
//! is why [`STACKS`] is small and the others are not. Measured on a 2-core machine, fork to wait of a
//! process with such an engine: 81 µs without stacks, 106 µs with 64, 129 µs with 128, 187 µs with 256,
//! 608 µs with wasmtime's default of 1000. Making the engine takes 0.4 ms and writes 120 KiB. A pod that has guests
//! of WASI 0.2 and of 0.3 pays for two.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::WasiVersion;

/// Component instances alive at once in one process. A container is one; a pod with more containers
/// than this would be remarkable (Kubernetes suggests at most 110 *pods* per node).
pub const COMPONENTS: u32 = 256;

/// Core module instances alive at once in one process. A Rust guest is 3 to 6; componentize-py makes
/// about 30 (one per shared library). Only counted, nothing is reserved.
pub const CORE_INSTANCES: u32 = 4096;

/// Core module instances of one component, so that one container cannot use up the pool.
pub const CORE_INSTANCES_PER_COMPONENT: u32 = 512;

/// Linear memories alive at once in one process. Each reserves [`MEMORY_RESERVATION`] and its guard: 1 TiB of
/// the 128 TiB that a process has.
pub const MEMORIES: u32 = 256;

/// Linear memories of one component. Most have one; a component composed of others has one for each.
pub const MEMORIES_PER_COMPONENT: u32 = 64;

/// Linear memories of one core module (the multi-memory proposal).
pub const MEMORIES_PER_MODULE: u32 = 8;

/// Tables alive at once in one process. Each reserves [`TABLE_ELEMENTS`] words.
pub const TABLES: u32 = 1024;

/// Tables of one component.
pub const TABLES_PER_COMPONENT: u32 = 256;

/// Tables of one core module.
pub const TABLES_PER_MODULE: u32 = 16;

/// Elements of one table: CPython and SpiderMonkey need 10,000 to 30,000, debug builds several times that.
pub const TABLE_ELEMENTS: usize = 200_000;

/// Bytes of runtime state that one core instance, or one component with all its core instances, may
/// need: 24 to 32 bytes for each function that is imported, exported or in a table. Only checked,
/// nothing is reserved.
pub const INSTANCE_STATE_BYTES: usize = 32 << 20;

/// Fiber stacks alive at once in one process: one for every call into a guest that waits; a container
/// needs one or two. See the module's header for why it is not larger.
pub const STACKS: u32 = 128;

/// Bytes reserved for each linear memory: all that a 32-bit one can address, so that neither growing
/// ever moves it nor an access ever needs a bounds check.
pub const MEMORY_RESERVATION: u64 = 4 << 30;

/// Unreachable bytes after each linear memory, for accesses with a constant offset. wasmtime's default.
pub const MEMORY_GUARD: u64 = 32 << 20;

/// Initial memory contents up to this many bytes become a copy-on-write image even when they are
/// mostly zeroes: an interpreter that was snapshotted after its start-up (componentize-py, jco) has
/// some 30 MiB of them.
pub const DENSE_IMAGE_BYTES: u64 = 64 << 20;

/// Bytes reserved for a linear memory to grow in place, on demand without a pool.
const ON_DEMAND_GROWTH: u64 = 1 << 20;

/// The policy, with instances from a pool.
pub fn pooled(version: WasiVersion) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(COMPONENTS)
        .total_core_instances(CORE_INSTANCES)
        .total_memories(MEMORIES)
        .total_tables(TABLES)
        .total_stacks(STACKS)
        .total_gc_heaps(MEMORIES)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_MODULE)
        .max_tables_per_module(TABLES_PER_MODULE)
        .max_core_instance_size(INSTANCE_STATE_BYTES)
        .max_component_instance_size(INSTANCE_STATE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MEMORY_RESERVATION as usize)
        // A file descriptor of /proc/self/pagemap shows the memory of the process that opened it. After
        // a raw clone3, which runs no atfork handlers, that is the zygote: the pod's written pages
        // would be missed and show up in the next instance.
        .pagemap_scan(Enabled::No);
    let mut config = base(version);
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD);
    config
}

/// The policy for machines where the pool cannot be reserved: memories as large as they need to be,
/// moved when they outgrow their place.
pub fn on_demand(version: WasiVersion) -> Config {
    let mut config = base(version);
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(0)
        .memory_guard_size(64 << 10)
        .memory_reservation_for_growth(ON_DEMAND_GROWTH)
        .memory_may_move(true);
    config
}

/// What both have in common.
fn base(version: WasiVersion) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Async functions, streams and futures come with it. Without it a call of the host needs no entry in
        // wasmtime's table of tasks.
        .concurrency_support(version == WasiVersion::V03)
        // Endless loops must not delay other containers: the code looks at the epoch on every loop's
        // back edge and yields.
        .epoch_interruption(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(DENSE_IMAGE_BYTES)
        // A trap's backtrace names file and line when the guest was built with debug information,
        // whatever the environment of the process says.
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        // For foreign profilers only; wasmtime's own backtraces do not need it, and registering it
        // makes loading slower.
        .native_unwind_info(false);
    config
}
