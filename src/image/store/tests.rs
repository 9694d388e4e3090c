//! Real modules from rustc, a real cache, and what an attacker would do to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::image::ErrorKind;
use crate::testing::needs_root;

/// A small program for `target`, compiled once per test run.
fn program(target: &'static str) -> Vec<u8> {
    static P1: OnceLock<Vec<u8>> = OnceLock::new();
    static P2: OnceLock<Vec<u8>> = OnceLock::new();
    let built = if target == "wasm32-wasip1" { &P1 } else { &P2 };
    built
        .get_or_init(|| {
            let dir = TempDir::new().unwrap();
            let source = dir.path().join("hello.rs");
            fs::write(&source, r#"fn main() { println!("hello {:?}", std::env::args()); }"#).unwrap();
            let out = dir.path().join("hello.wasm");
            let mut rustc = Command::new("rustc");
            rustc.args(["--edition=2024", "-Copt-level=s", "--target", target, "-o"]).arg(&out).arg(&source);
            assert!(rustc.status().unwrap().success(), "rustc with the target {target} is needed");
            fs::read(out).unwrap()
        })
        .clone()
}

/// A component that exports `wasi:cli/run@0.2.0`, as small as can be; `n` makes it another one.
fn tiny(n: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (func (export "run") (result i32) (drop (i32.const {n})) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $e (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $e)))"#
    );
    wat::parse_str(text).unwrap()
}

struct Fixture {
    dir: TempDir,
    engines: Engines,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), engines: Engines::default() }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// A store without anything in memory, as after a restart.
    fn store(&self) -> Store {
        Store::open(&self.cache(), &self.engines).unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> Reference {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        Reference::Local(path)
    }

    /// The one code file in the cache.
    fn code_file(&self) -> PathBuf {
        let files: Vec<_> =
            fs::read_dir(self.cache().join("code")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.into_iter().next().unwrap()
    }

    fn error(&self, name: &str, content: &[u8]) -> (ErrorKind, String) {
        let reference = self.file(name, content);
        let error = self.store().load(&reference).map(|image| image.world).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name), "{text} does not name {name}");
        assert_eq!(fs::read_dir(self.cache().join("code")).unwrap().count(), 0, "something is left behind");
        (error.kind(), text)
    }
}

#[test]
fn programs_of_both_targets_run_one_way_and_compile_once() {
    let fixture = Fixture::new();
    for target in ["wasm32-wasip1", "wasm32-wasip2"] {
        let reference = fixture.file(target, &program(target));
        let image = fixture.store().load(&reference).unwrap();
        assert_eq!((image.world, image.cache), (World::Command02, CacheUse::Compiled), "{target}");
        assert_eq!(image.digest, Digest::of(&program(target)));
        let compiling = |event: super::super::Event<'_>| panic!("a second start compiles: {event:?}");
        let image = fixture.store().load_with(&reference, &compiling).unwrap();
        assert_eq!(image.cache, CacheUse::Hit, "{target}");
    }
}

#[test]
fn each_version_of_wasi_has_an_engine_that_is_made_when_it_is_needed() {
    let fixture = Fixture::new();
    let needed = || fixture.engines.made().map(Engine::version).collect::<Vec<_>>();
    let v02 = fixture.file("a.wasm", &tiny(1));
    let run = r#"(component
        (core module $m (func (export "run") (result i32) unreachable) (func (export "more") (param i32 i32 i32) (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func $run async (result (result)) (canon lift
            (core func $i "run") async (callback (core func $i "more"))))
        (instance $e (export "run" (func $run)))
        (export "wasi:cli/run@0.3.0" (instance $e)))"#;
    let v03 = fixture.file("b.wasm", &wat::parse_str(run).unwrap());
    for cache in [CacheUse::Compiled, CacheUse::Hit] {
        let image = fixture.store().load(&v02).unwrap();
        assert_eq!((image.engine.version(), image.cache), (WasiVersion::V02, cache));
        if cache == CacheUse::Compiled {
            assert_eq!(needed(), [WasiVersion::V02]);
        }
        let image = fixture.store().load(&v03).unwrap();
        assert_eq!(
            (image.world, image.engine.version(), image.cache),
            (World::Command03, WasiVersion::V03, cache)
        );
    }
    assert_eq!(needed(), WasiVersion::ALL);
}

#[test]
fn a_copy_elsewhere_is_the_same_image() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let first = store.load(&fixture.file("a.wasm", &tiny(1))).unwrap();
    let copy = store.load(&fixture.file("b.wasm", &tiny(1))).unwrap();
    let other = store.load(&fixture.file("c.wasm", &tiny(2))).unwrap();
    assert_eq!((copy.digest, copy.cache), (first.digest, CacheUse::Hit));
    assert_eq!(other.cache, CacheUse::Compiled);
    assert_ne!(other.digest, first.digest);
}

#[test]
fn code_of_another_engine_is_not_used() {
    let fixture = Fixture::new();
    let reference = fixture.file("a.wasm", &tiny(1));
    fixture.store().load(&reference).unwrap();
    let without_pool = || Engine::on_demand(WasiVersion::V02, "a test");
    let others = Engines::default();
    others.make(WasiVersion::V02, without_pool).unwrap();
    let store = Store::open(&fixture.cache(), &others).unwrap();
    assert_eq!(store.load(&reference).unwrap().cache, CacheUse::Compiled);
}

#[test]
fn an_unchanged_file_is_not_read_and_a_changed_one_is() {
    let fixture = Fixture::new();
    let reference = fixture.file("a.wasm", &tiny(1));
    // Hold the file as if it had been written long ago; its ctime is now, so wait for that to settle.
    let stamp = || Stamp::of(&fs::metadata(reference.path()).unwrap());
    while !stamp().is_settled(SystemTime::now()) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let first = fixture.store().load(&reference).unwrap();
    let index = CacheDir::open(&fixture.cache()).unwrap().subdirectory("index").unwrap();
    assert_eq!(
        index::lookup(&index, &stamp()),
        Some(index::Known { digest: first.digest, wasi: Some(WasiVersion::V02) })
    );
    fs::write(reference.path(), tiny(2)).unwrap();
    assert_eq!(index::lookup(&index, &stamp()), None);
    let second = fixture.store().load(&reference).unwrap();
    assert_eq!((second.digest, second.cache), (Digest::of(&tiny(2)), CacheUse::Compiled));
    assert_eq!(index::lookup(&index, &stamp()), None, "changed just now: not taken in");
}

#[test]
fn what_is_no_image_says_what_it_is() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let missing = store.load(&Reference::Local("/nowhere/app.wasm".into())).map(|i| i.world).unwrap_err();
    assert_eq!((missing.kind(), missing.exit_code()), (ErrorKind::NotFound, 127));
    let directory = store.load(&Reference::Local(fixture.dir.path().into())).map(|i| i.world).unwrap_err();
    assert!(directory.to_string().contains("--build"), "{directory}");
    assert_eq!(directory.exit_code(), 126);
    let device = store.load(&Reference::Local("/dev/null".into())).map(|i| i.world).unwrap_err();
    assert!(device.to_string().contains("not a regular file"), "{device}");

    for (name, content, words) in [
        ("empty.wasm", vec![], "is empty"),
        ("photo.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec(), "JPEG"),
        ("cut.wasm", tiny(1)[..tiny(1).len() / 2].to_vec(), "not a valid component"),
        ("library.wasm", wat::parse_str("(module)").unwrap(), "without `_start`"),
        ("native", fs::read("/proc/self/exe").unwrap()[..4096].to_vec(), "wasm32-wasip2"),
    ] {
        let (kind, text) = fixture.error(name, &content);
        assert_eq!(kind, ErrorKind::CannotRun, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_handler_is_compiled_but_not_run() {
    let fixture = Fixture::new();
    let text = r#"(component
        (core module $m (func (export "handle")))
        (core instance $i (instantiate $m))
        (func $handle (canon lift (core func $i "handle")))
        (instance $e (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $e)))"#;
    let reference = fixture.file("handler.wasm", &wat::parse_str(text).unwrap());
    let error = fixture.store().load(&reference).map(|image| image.world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CannotRun);
    assert!(error.to_string().contains("wasi:http/incoming-handler"), "{error}");
}

/// Does something to the code file and sees that the code is made anew, in the right place and with
/// the right permissions.
fn assert_remade(attack: impl FnOnce(&Path)) {
    let fixture = Fixture::new();
    let reference = fixture.file("a.wasm", &tiny(1));
    fixture.store().load(&reference).unwrap();
    let code = fixture.code_file();
    attack(&code);
    assert_eq!(fixture.store().load(&reference).unwrap().cache, CacheUse::Compiled);
    let metadata = fs::symlink_metadata(fixture.code_file()).unwrap();
    assert!(metadata.is_file());
    assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, nix::unistd::geteuid().as_raw()));
    assert_eq!(fixture.store().load(&reference).unwrap().cache, CacheUse::Hit);
}

#[test]
fn code_that_cannot_be_trusted_is_made_anew() {
    assert_remade(|code| fs::set_permissions(code, fs::Permissions::from_mode(0o620)).unwrap());
    assert_remade(|code| fs::set_permissions(code, fs::Permissions::from_mode(0o602)).unwrap());
    if needs_root() {
        assert_remade(|code| chown(code, Some(12345), None).unwrap());
    }
    assert_remade(|code| {
        let elsewhere = code.with_file_name("../elsewhere");
        fs::rename(code, &elsewhere).unwrap();
        symlink(elsewhere, code).unwrap();
    });
    assert_remade(|code| {
        fs::remove_file(code).unwrap();
        nix::unistd::mkfifo(code, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    });
}

#[test]
fn damaged_code_is_made_anew() {
    assert_remade(|code| fs::write(code, b"").unwrap());
    assert_remade(|code| fs::write(code, b"not machine code").unwrap());
    for keep in [1, 2, 3] {
        assert_remade(|code| {
            let whole = fs::read(code).unwrap();
            fs::write(code, &whole[..whole.len() * keep / 4]).unwrap();
        });
    }
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.store());
    let code = fixture.cache().join("code");
    let open = || Store::open(&fixture.cache(), &fixture.engines).map(|_| ()).unwrap_err();

    fs::set_permissions(&code, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(open(), CacheError::WritableByOthers { mode: 0o770, .. }));
    fs::set_permissions(&code, fs::Permissions::from_mode(0o700)).unwrap();

    if !needs_root() {
        return;
    }
    chown(&code, Some(12345), None).unwrap();
    assert!(matches!(open(), CacheError::ForeignOwner { owner: 12345, .. }));
    chown(&code, Some(0), None).unwrap();

    fs::rename(&code, fixture.dir.path().join("elsewhere")).unwrap();
    symlink(fixture.dir.path().join("elsewhere"), &code).unwrap();
    let error = open().to_string();
    assert!(error.contains("cannot open") && error.contains("code"), "{error}");
    fs::remove_file(&code).unwrap();

    fs::write(&code, b"a file").unwrap();
    let error = open().to_string();
    assert!(error.contains("code"), "{error}");
}

#[test]
fn many_at_once_are_right() {
    let fixture = Fixture::new();
    let references = [fixture.file("a.wasm", &tiny(1)), fixture.file("b.wasm", &tiny(2))];
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (fixture, reference) = (&fixture, &references[n % 2]);
            scope.spawn(move || {
                let image = fixture.store().load(reference).unwrap();
                assert_eq!(image.digest, Digest::of(&fs::read(reference.path()).unwrap()));
            });
        }
    });
    let names: Vec<_> =
        fs::read_dir(fixture.cache().join("code")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing unfinished is left: {names:?}");
}

#[test]
fn old_code_is_removed_and_used_code_is_not() {
    let fixture = Fixture::new();
    let reference = fixture.file("a.wasm", &tiny(1));
    fixture.store().load(&reference).unwrap();
    let code = fixture.code_file();
    let long_ago = SystemTime::now() - cache::MAX_AGE - Duration::from_secs(60);
    let age =
        |path: &Path| fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();

    age(&code);
    fixture.store().load(&reference).unwrap();
    age(&fixture.cache().join("pruned"));
    drop(fixture.store());
    assert!(code.exists(), "it was used after that");

    let left_behind = fixture.cache().join("code/.new-1-0");
    fs::write(&left_behind, b"half").unwrap();
    age(&left_behind);
    age(&code);
    drop(fixture.store());
    assert!(code.exists(), "once a day is enough");
    age(&fixture.cache().join("pruned"));
    drop(fixture.store());
    assert!(!code.exists() && !left_behind.exists());
}

#[test]
fn the_cache_is_bounded() {
    let fixture = Fixture::new();
    let store = fixture.store();
    for n in 0..4 {
        store.load(&fixture.file(&format!("{n}.wasm"), &tiny(n))).unwrap();
    }
    let code = fixture.cache().join("code");
    let size = fs::read_dir(&code).unwrap().next().unwrap().unwrap().metadata().unwrap().len();
    CacheDir::open(&fixture.cache()).unwrap().subdirectory("code").unwrap().prune(size * 5 / 2);
    assert_eq!(fs::read_dir(&code).unwrap().count(), 2);
}
