//! Real crates, built by the real cargo. They have no dependencies: nothing is fetched.

use std::cell::Cell;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::image::ErrorKind;

/// A crate with these files.
fn guest(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn prepare_dir(dir: &Path) -> Result<PathBuf, ImageError> {
    prepare(&Reference::Local(dir.to_owned()), true, Path::new("/nowhere"), &|_| {})
}

fn failure_of(files: &[(&str, &str)]) -> (ErrorKind, String) {
    let dir = guest(files);
    let error = prepare_dir(dir.path()).unwrap_err();
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error} names no directory");
    (error.kind(), error.to_string())
}

const HELLO: &str = "[package]\nname = \"hello\"\nedition = \"2024\"\n";
const MAIN: &str = "fn main() {}";

#[test]
fn a_crate_is_built_to_its_component() {
    let dir = guest(&[("Cargo.toml", HELLO), ("src/main.rs", MAIN)]);
    let built = Cell::new(None);
    let progress = |event: Event<'_>| {
        if let Event::Built { path, fresh, .. } = event {
            assert_eq!(path, dir.path());
            built.set(Some(fresh));
        }
    };
    let reference = Reference::Local(dir.path().into());
    let file = prepare(&reference, true, Path::new("/nowhere"), &progress).unwrap();
    assert!(file.ends_with("target/wasm32-wasip2/release/hello.wasm"), "{}", file.display());
    assert_eq!(built.get(), Some(false));
    let kind = crate::image::source::kind(&fs::read(&file).unwrap());
    assert_eq!(kind, Ok(crate::image::source::Kind::Component));

    // Fresh: the same file again. Its source gone: the compiler's words.
    assert_eq!(prepare(&reference, true, Path::new("/nowhere"), &progress).unwrap(), file);
    assert_eq!(built.get(), Some(true));
    fs::write(dir.path().join("src/main.rs"), "fn main() { nonsense }").unwrap();
    let error = prepare_dir(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CannotRun);
    assert!(error.to_string().contains("cannot find value `nonsense`"), "{error}");
}

#[test]
fn a_crate_may_choose_its_target_and_its_binary() {
    let manifest =
        format!("{HELLO}default-run = \"b\"\n[package.metadata.peapod]\ntarget = \"wasm32-wasip1\"\n");
    let dir = guest(&[("Cargo.toml", &manifest), ("src/bin/a.rs", MAIN), ("src/bin/b.rs", MAIN)]);
    let file = prepare_dir(dir.path()).unwrap();
    assert!(file.ends_with("target/wasm32-wasip1/release/b.wasm"), "{}", file.display());
}

#[test]
fn a_library_is_an_image_if_it_is_a_cdylib() {
    let manifest = format!(
        "{HELLO}[lib]\ncrate-type = [\"cdylib\"]\n[package.metadata.peapod]\ntarget = \"wasm32-wasip1\"\n"
    );
    let dir = guest(&[("Cargo.toml", &manifest), ("src/lib.rs", "")]);
    assert!(prepare_dir(dir.path()).unwrap().ends_with("hello.wasm"));
    let (_, text) = failure_of(&[("Cargo.toml", HELLO), ("src/lib.rs", "")]);
    assert!(text.contains("nothing to run"), "{text}");
}

#[test]
fn what_cannot_be_built_says_why() {
    let (kind, text) = failure_of(&[("main.zig", "pub fn main() void {}")]);
    assert_eq!(kind, ErrorKind::CannotRun);
    assert!(
        text.contains("Cargo.toml")
            && text.contains("app.py")
            && text.contains("app.js")
            && text.contains("*.c"),
        "{text}"
    );
    let (_, text) = failure_of(&[("Cargo.toml", HELLO), ("src/bin/a.rs", MAIN), ("src/bin/b.rs", MAIN)]);
    assert!(text.contains("a, b") && text.contains("default-run"), "{text}");
    let (_, text) = failure_of(&[("Cargo.toml", "[package]\nname = 1"), ("src/main.rs", MAIN)]);
    assert!(text.contains("cargo metadata failed"), "{text}");
    let manifest = format!("{HELLO}[package.metadata.peapod]\ntarget = \"riscv\"\n");
    let (_, text) = failure_of(&[("Cargo.toml", &manifest), ("src/main.rs", MAIN)]);
    assert!(text.contains("riscv") && text.contains("wasm32-wasip2"), "{text}");
    let (_, text) = failure_of(&[
        ("Cargo.toml", "[workspace]\nmembers = [\"one\"]\nresolver = \"3\"\n"),
        ("one/Cargo.toml", HELLO),
        ("one/src/main.rs", MAIN),
    ]);
    assert!(text.contains("workspace") && text.contains("/one"), "{text}");
}

#[test]
fn a_file_is_left_alone_and_a_directory_needs_the_flag() {
    let file = Reference::Local("/nowhere/app.wasm".into());
    assert_eq!(prepare(&file, true, Path::new("/nowhere"), &|_| {}).unwrap(), Path::new("/nowhere/app.wasm"));
    let dir = guest(&[("Cargo.toml", HELLO)]);
    let reference = Reference::Local(dir.path().into());
    let error = prepare(&reference, false, Path::new("/nowhere"), &|_| {}).unwrap_err();
    assert!(matches!(error, ImageError::NeedsBuild(_)));
}
