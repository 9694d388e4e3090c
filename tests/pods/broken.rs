//! Every input in `tests/broken/` is refused with a message that says what is wrong and where.
//!
//! `NAME.expected` beside each says the exit code and what the message must contain.

use std::path::{Path, PathBuf};

use super::support::{Finished, guests, peapod};

fn inputs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.with_extension("expected").exists() && path.extension().unwrap() != "expected")
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 30, "only {} broken inputs", inputs.len());
    inputs
}

#[test]
fn each_is_refused_with_a_message_that_helps() {
    guests::guests();
    let mut failures = Vec::new();
    for input in inputs() {
        let expected = std::fs::read_to_string(input.with_extension("expected")).unwrap();
        let mut expected = expected.lines().filter(|line| !line.is_empty());
        let code: i32 = expected.next().and_then(|line| line.strip_prefix("exit ")).unwrap().parse().unwrap();
        let output = peapod().arg("run").arg(&input).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        let missing: Vec<&str> = expected.filter(|text| !message.contains(text)).collect();
        if output.status.code() != Some(code) || !missing.is_empty() || message.contains("panicked") {
            failures.push(format!("{}: {}, without {missing:?}:\n{message}", input.display(), output.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn warnings_are_given_beside_errors() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: here, containers: []}}";
    let directory = super::support::directory();
    let file = super::support::manifest(directory.path(), text);
    for command in ["run", "check"] {
        Finished::from(peapod().arg(command).arg(&file).output().unwrap())
            .expect_code(2)
            .expect_stderr("spec.containers: ")
            .expect_stderr("warning: spec.nodeName: ignored");
    }
}
