//! Where peapod keeps things on the host.
//!
//! | directory | root | otherwise | holds |
//! |---|---|---|---|
//! | run | `/run/peapod` | `$XDG_RUNTIME_DIR/peapod`, else `/tmp/peapod-$UID` | record, lock, control socket and `/etc` files of each live pod, address leases; gone after a reboot |
//! | state | `/var/lib/peapod` | `$XDG_STATE_HOME/peapod`, else `~/.local/state/peapod` | emptyDir volumes and container logs of live pods; claims, with their data |
//! | cache | `/var/cache/peapod` | `$XDG_CACHE_HOME/peapod`, else `~/.cache/peapod` | compiled code; unpacked image volumes; tools that `--build` fetched |
//!
//! `PEAPOD_ROOT=DIR` puts all three below one directory (`DIR/run`, `DIR/state`, `DIR/cache`).

use std::path::PathBuf;

/// peapod's three directories on the host. See the module's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Records, locks, `/etc` files and address leases of live pods.
    pub run: PathBuf,
    /// Volumes and logs of live pods; claims with their data.
    pub state: PathBuf,
    /// Compiled code, unpacked image volumes, fetched tools.
    pub cache: PathBuf,
}

impl Paths {
    /// The directories of the user who runs this process, from the environment.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self::resolve(nix::unistd::geteuid().as_raw(), var)
    }

    /// [`Paths::from_env`] with its inputs as arguments.
    pub fn resolve(uid: u32, var: impl Fn(&str) -> Option<PathBuf>) -> Self {
        if let Some(root) = var("PEAPOD_ROOT") {
            return Self { run: root.join("run"), state: root.join("state"), cache: root.join("cache") };
        }
        if uid == 0 {
            return Self {
                run: "/run/peapod".into(),
                state: "/var/lib/peapod".into(),
                cache: "/var/cache/peapod".into(),
            };
        }
        let fallback = PathBuf::from(format!("/tmp/peapod-{uid}"));
        let home = |sub: &str| var("HOME").map(|home| home.join(sub));
        let run = var("XDG_RUNTIME_DIR").map(|dir| dir.join("peapod"));
        let state = var("XDG_STATE_HOME").or_else(|| home(".local/state")).map(|dir| dir.join("peapod"));
        let cache = var("XDG_CACHE_HOME").or_else(|| home(".cache")).map(|dir| dir.join("peapod"));
        Self {
            run: run.unwrap_or_else(|| fallback.clone()),
            state: state.unwrap_or_else(|| fallback.join("state")),
            cache: cache.unwrap_or_else(|| fallback.join("cache")),
        }
    }

    /// Tools that `--build` fetches: `<cache>/tools`.
    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// The run directory of one live pod: `<run>/pods/<uid>`.
    pub fn pod_run(&self, uid: &str) -> PathBuf {
        self.run.join("pods").join(uid)
    }

    /// The state directory of one pod: `<state>/pods/<uid>`.
    pub fn pod_state(&self, uid: &str) -> PathBuf {
        self.state.join("pods").join(uid)
    }

    /// Claims, with the data of those that peapod made a directory for: `<state>/claims`.
    pub fn claims(&self) -> PathBuf {
        self.state.join("claims")
    }

    /// What is known of PersistentVolumes: `<state>/volumes`.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_uses_the_system_directories() {
        let paths = Paths::resolve(0, |_| None);
        assert_eq!(paths.run, PathBuf::from("/run/peapod"));
        assert_eq!(paths.pod_state("u1"), PathBuf::from("/var/lib/peapod/pods/u1"));
    }

    #[test]
    fn a_user_without_xdg_or_home_still_gets_private_directories() {
        let paths = Paths::resolve(1000, |_| None);
        assert_eq!(paths.run, PathBuf::from("/tmp/peapod-1000"));
        assert_eq!(paths.cache, PathBuf::from("/tmp/peapod-1000/cache"));
    }

    #[test]
    fn peapod_root_moves_everything() {
        let paths = Paths::resolve(0, |name| (name == "PEAPOD_ROOT").then(|| "/x".into()));
        assert_eq!(paths, Paths { run: "/x/run".into(), state: "/x/state".into(), cache: "/x/cache".into() });
    }
}
