//! The invariants that `src/lib.rs` states, held against the source text.

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file, except those of unit tests, with its path below `src/`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 30, "found only {} source files below {}", files.len(), root.display());
    let relative = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests")) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines of a file that are neither comments nor part of its unit tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Asserts that `words` appear in the code of those files only that `allowed` accepts.
fn only_in(words: &[&str], allowed: impl Fn(&str) -> bool) {
    let mut found = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !allowed(path)) {
        for (number, line) in code(text) {
            for word in words.iter().filter(|word| has_word(line, word)) {
                found.push(format!("src/{path}:{number}: {word}"));
            }
        }
    }
    assert!(found.is_empty(), "not allowed here:\n{}", found.join("\n"));
}

/// Asserts that `words` do not appear in the code of the files below `places`.
fn never_in(words: &[&str], places: &[&str]) {
    only_in(words, |path| !places.iter().any(|place| path.starts_with(place)));
}

#[test]
fn unsafe_and_raw_system_calls_live_in_sys() {
    only_in(&["unsafe"], |path| path.starts_with("sys/") || path == "engine/code.rs");
    // Elsewhere libc is for constants, such as errno values.
    for (path, text) in sources().iter().filter(|(path, _)| !path.starts_with("sys/")) {
        for (number, line) in code(text) {
            let called = line.split("libc::").skip(1).any(|rest| rest.starts_with(char::is_lowercase));
            assert!(!called, "src/{path}:{number}: a raw system call: {line}");
        }
    }
}

#[test]
fn every_unsafe_block_names_the_invariant_that_holds() {
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let argued = lines[index.saturating_sub(8)..=index].iter().any(|line| line.contains("SAFETY"));
            assert!(argued, "src/{path}:{}: no SAFETY comment", index + 1);
        }
    }
}

#[test]
fn serde_stays_at_the_edges() {
    only_in(&["serde", "serde_json", "serde_yaml"], |path| {
        [
            "manifest/",
            "image/",
            "api/",
            "cli/",
            "pod/control",
            "sandbox/record.rs",
            "sandbox/cni/",
            "volume/claims/record.rs",
        ]
        .iter()
        .any(|allowed| path.starts_with(allowed))
    });
}

#[test]
fn wire_types_never_reach_the_state_machine() {
    never_in(
        &["k8s_openapi"],
        &[
            "pod/actions.rs",
            "pod/conditions.rs",
            "pod/outcome.rs",
            "pod/probe.rs",
            "pod/record.rs",
            "pod/state.rs",
            "pod/stop.rs",
            "net/",
            "sandbox/",
            "container/",
            "volume/",
        ],
    );
}

#[test]
fn wasmtime_is_named_where_it_is_wrapped() {
    only_in(&["wasmtime", "wasmtime_wasi"], |path| {
        ["engine/", "image/", "wasi/", "container/runner/", "cli/version.rs"]
            .iter()
            .any(|allowed| path.starts_with(allowed))
    });
}

#[test]
fn what_decides_is_pure() {
    let pure = [
        "pod/actions.rs",
        "pod/backoff.rs",
        "pod/conditions.rs",
        "pod/death.rs",
        "pod/event.rs",
        "pod/outcome.rs",
        "pod/probe.rs",
        "pod/record.rs",
        "pod/state.rs",
        "pod/status.rs",
        "pod/status/",
        "pod/stop.rs",
        "pod/time.rs",
        "volume/claims/inventory.rs",
        "net/ports.rs",
        "net/udp/table.rs",
        "net/names/hosts.rs",
        "net/names/query.rs",
        "net/names/resolv_conf.rs",
        "net/names/search.rs",
        "spec/",
    ];
    never_in(&["tokio", "Instant", "SystemTime", "std::fs", "std::net::TcpStream"], &pure);
    never_in(&["now()"], &pure);
}

#[test]
fn no_unbounded_queues() {
    never_in(&["unbounded_channel", "unbounded"], &[""]);
}
