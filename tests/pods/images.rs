//! What can be an image.

use super::support::{Finished, peapod, run};

fn pod(image: &str, arguments: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: image}}
spec:
  restartPolicy: Never
  containers:
  - {{name: main, image: '{image}', args: {arguments}}}
"
    )
}

#[test]
fn a_core_module_of_wasi_preview_1_runs() {
    run(&pod("{core}", "[hello]"), &[]).expect_code(0).expect_stdout("[main] hello");
    // The preview 1 adapter knows success and failure only.
    run(&pod("{core}", "[exit, '5']"), &[]).expect_code(1);
}

#[test]
fn a_component_of_wasi_0_3_runs() {
    run(&pod("{p3}", "[hello]"), &[]).expect_code(0).expect_stdout("[main] hello");
    run(&pod("{p3}", "[exit, '5']"), &[]).expect_code(5);
}

#[test]
fn an_unknown_import_is_named() {
    run(&pod("{unknown-import}", "[]"), &[]).expect_code(126).expect_stderr("acme:telemetry/sink@1.0.0");
}

#[test]
fn an_http_handler_is_recognised_and_named() {
    run(&pod("{http-handler}", "[]"), &[]).expect_code(126).expect_stderr("wasi:http/incoming-handler");
}

#[test]
fn a_directory_of_source_is_built() {
    let source = super::support::directory();
    std::fs::create_dir(source.path().join("src")).unwrap();
    std::fs::write(
        source.path().join("Cargo.toml"),
        "[package]\nname = \"built\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    let main = source.path().join("src/main.rs");
    std::fs::write(&main, "fn main() { println!(\"built one\"); }").unwrap();
    let text = pod(source.path().to_str().unwrap(), "[]");
    run(&text, &[]).expect_code(126).expect_stderr("--build");
    run(&text, &["--build"]).expect_code(0).expect_stdout("built one");
    std::fs::write(&main, "fn main() { println!(\"built two\"); }").unwrap();
    run(&text, &["--build"]).expect_code(0).expect_stdout("built two");
    std::fs::write(&main, "fn main() { nonsense }").unwrap();
    run(&text, &["--build"]).expect_code(126).expect_stderr("nonsense");
}

#[test]
fn the_other_commands_answer() {
    for arguments in [&["version"][..], &["completions", "bash"], &["--help"], &["run", "--help"]] {
        let output = peapod().args(arguments).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn all_bad_images_are_reported_by_run_and_check() {
    let directory = super::support::directory();
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: image}
spec:
  nodeName: here
  initContainers:
  - {name: first, image: '{http-handler}'}
  containers:
  - {name: good, image: '{core}'}
  - {name: gone, image: ./gone.wasm}
";
    let file = super::support::manifest(directory.path(), text);
    for command in ["run", "check"] {
        Finished::from(peapod().arg(command).arg(&file).output().unwrap())
            .expect_code(126)
            .expect_stderr("spec.nodeName: ignored")
            .expect_stderr("spec.initContainers[0].image")
            .expect_stderr("spec.containers[1].image: \"./gone.wasm\"");
    }
}

#[test]
fn check_lets_directories_of_source_pass() {
    let source = super::support::directory();
    let file = super::support::manifest(source.path(), &pod("./", "[]"));
    Finished::from(peapod().arg("check").arg(file).output().unwrap())
        .expect_code(0)
        .expect_stderr("built by run --build");
}
