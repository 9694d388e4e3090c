//! What unit tests of several modules share.

pub(crate) mod network;
pub(crate) mod spec;

/// Whether a test that needs root may run. Fails loudly without root, unless the user asked for the set that
/// does not need it (`PEAPOD_TESTS=rootless`).
pub(crate) fn needs_root() -> bool {
    if std::env::var_os("PEAPOD_TESTS").is_some_and(|set| set == "rootless") {
        eprintln!("not part of the rootless set");
        return false;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root; PEAPOD_TESTS=rootless runs the set that does not"
    );
    true
}
