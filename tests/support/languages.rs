//! The test guests in other languages than Rust, which peapod itself builds: `tests/guests/c`, `tests/guests/python`.
//!
//! ```text
//! {c}, {python} ─► peapod run --build, once ─► the directory, for pods that are run with --build
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A manifest's text with `{c}` and `{python}` and the like replaced by the guests' directories.
pub fn fill_in(mut text: String) -> String {
    for name in ["c", "python", "ipc-python"] {
        let placeholder = format!("{{{name}}}");
        if text.contains(&placeholder) {
            text = text.replace(&placeholder, &built(name).to_string_lossy());
        }
    }
    text
}

/// A guest that peapod itself builds, `tests/guests/<name>`: compiled to machine code once, so that tests
/// that run at the same time do not each do so.
fn built(name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = built.entry(name).or_insert_with(|| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name);
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: build}}, spec: {{restartPolicy: Never, containers: \
             [{{name: main, image: {}}}]}}}}",
            directory.display()
        );
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("build-{name}.yaml"));
        std::fs::write(&file, manifest).expect("write a manifest");
        super::debian::require_python();
        let mut command = super::peapod();
        let output = command.args(["run", "--build"]).arg(file).output().expect("start peapod");
        // Without arguments it says how it is used, with exit code 1.
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("ended    main Error, exit code 1"), "tests/guests/{name}:\n{words}");
        directory
    });
    directory.clone()
}
