//! The zygote stays single-threaded and small: making the engine, compiling, loading.
//!
//! libtest runs tests on threads of their own, so this has a `main` instead.

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use peapod::engine::{Allocation, Engines, WasiVersion};
use peapod::image::{CacheUse, Event, Reference, Store};
use peapod::sys::fork::{self, ChildError};

/// A component with enough functions that compiling it keeps every core busy.
fn component() -> Vec<u8> {
    let functions: String = (0..3000)
        .map(|n| {
            format!(
                "(func (export \"f{n}\") (param i32) (result i32) (i32.mul (local.get 0) (i32.const {n})))"
            )
        })
        .collect();
    let text = format!(
        r#"(component
            (core module $m (memory 1) (data (i32.const 0) "some data") {functions}
                (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $e (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $e)))"#
    );
    wat::parse_str(text).expect("valid text")
}

fn assert_alone(after: &str) {
    let threads = fs::read_dir("/proc/self/task").expect("/proc").count();
    assert_eq!(threads, 1, "{after}: the process has {threads} threads");
}

/// Kilobytes of `field` in /proc/self/status.
fn kilobytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of status");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn engine_and_images() {
    let (memory, open) = (kilobytes("RssAnon"), descriptors());
    let engines = Engines::default();
    let engine = engines.get(WasiVersion::V02).expect("an engine");
    assert_eq!((engine.allocation(), engine.warning()), (Allocation::Pooled, None));
    assert_alone("making an engine");
    let dirty = kilobytes("RssAnon") - memory;
    println!("engine: {dirty} KiB written, {} KiB reserved", kilobytes("VmSize"));
    assert!(dirty < 4096, "making an engine writes {dirty} KiB, which every fork copies the page tables of");
    assert_eq!(descriptors(), open, "an engine opens no file that a fork would share");

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.wasm");
    fs::write(&path, component()).expect("written");
    let reference = Reference::Local(path);
    let (begun, ended) = (AtomicU32::new(0), AtomicU32::new(0));
    let progress = |event: Event<'_>| match event {
        Event::Compiling { size, .. } => {
            assert!(size > 3000);
            begun.fetch_add(1, Ordering::Relaxed);
        }
        Event::Compiled { .. } => {
            ended.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    };
    let store = Store::open(&dir.path().join("cache"), &engines).expect("a store");
    let memory = kilobytes("RssAnon");
    let image = store.load_with(&reference, &progress).expect("an image");
    assert_eq!(image.cache, CacheUse::Compiled);
    assert_alone("compiling");
    println!("compiled and mapped: {} KiB written", kilobytes("RssAnon").saturating_sub(memory));
    let image =
        Store::open(&dir.path().join("cache"), &engines).expect("a store").load_with(&reference, &progress);
    assert_eq!(image.expect("an image").cache, CacheUse::Hit);
    assert_alone("loading");
    assert_eq!((begun.into_inner(), ended.into_inner()), (1, 1));

    let broken = dir.path().join("broken.wasm");
    fs::write(&broken, &component()[..2000]).expect("written");
    let error =
        store.load(&Reference::Local(broken)).map(|image| image.world).expect_err("a broken component");
    assert!(
        error.to_string().contains("broken.wasm") && error.to_string().contains("not a valid component"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 126);
}

fn what_a_child_may_do() {
    assert_eq!(fork::run_in_child(|| b"answer".to_vec(), &mut || {}).expect("an answer"), b"answer");
    let threads = fork::run_in_child(
        || {
            let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || n)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        },
        &mut || {},
    );
    assert_eq!(threads.expect("an answer"), [0, 1, 2, 3]);
    assert_alone("threads in a child");

    let mut waited = 0;
    let late = fork::run_in_child(
        || {
            std::thread::sleep(std::time::Duration::from_millis(350));
            vec![]
        },
        &mut || waited += 1,
    );
    assert!(late.is_ok() && waited > 0, "who waits is told so");

    let killed = fork::run_in_child(
        || {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            vec![]
        },
        &mut || {},
    );
    assert!(matches!(killed, Err(ChildError::Killed(nix::sys::signal::Signal::SIGKILL))), "{killed:?}");
    let exited = fork::run_in_child(|| std::process::exit(3), &mut || {});
    assert!(matches!(exited, Err(ChildError::Exited(3))), "{exited:?}");
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = fork::run_in_child(|| panic!("no {}", "way"), &mut || {});
    let _ = std::panic::take_hook();
    assert!(matches!(&panicked, Err(ChildError::Panicked(text)) if text == "no way"), "{panicked:?}");

    let children = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    assert_eq!(children, Err(nix::errno::Errno::ECHILD), "every child is reaped");
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| fork::run_in_child(Vec::new, &mut || {})).join().expect("no panic")
    });
    assert!(matches!(refused, Err(ChildError::SeveralThreads)), "{refused:?}");
}

/// In a process that may not reserve the pool's address space.
fn without_address_space() {
    let answer = fork::run_in_child(
        || {
            let limit = 4 << 30;
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, limit, limit)
                .expect("a limit");
            let engines = Engines::default();
            let engine = engines.get(WasiVersion::V02).expect("an engine without a pool");
            assert_eq!(engine.allocation(), Allocation::OnDemand);
            engine.warning().expect("a warning").as_bytes().to_vec()
        },
        &mut || {},
    );
    let warning = String::from_utf8(answer.expect("an answer")).expect("text");
    assert!(warning.contains("ulimit -v"), "{warning}");
}

fn main() -> ExitCode {
    // Asked by test runners that want to know what is here.
    if std::env::args().any(|argument| argument == "--list") {
        println!("zygote: test");
        return ExitCode::SUCCESS;
    }
    assert_alone("main");
    what_a_child_may_do();
    without_address_space();
    engine_and_images();
    println!("zygote: ok");
    ExitCode::SUCCESS
}
