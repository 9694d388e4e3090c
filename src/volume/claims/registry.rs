//! The claims and volumes on disk.
//!
//! ```text
//! <state>/claims/.lock                         held for moments: while any of this is read or written
//! <state>/claims/<namespace>/<name>/claim.json
//! <state>/claims/<namespace>/<name>/data/      made by the provisioner; 0777, and nobody else gets above it
//! <state>/claims/<namespace>/<name>/users/     see `users`
//! <state>/claims/.trash/                       what is deleted, until it is gone
//! <state>/volumes/<name>/volume.json
//!
//! open ─► Inventory ─► (changed by the caller) ─► commit ─► discard what is in the trash, without the lock
//! ```
//!
//! A record appears and changes in one rename, after what it speaks of: a directory without one is no claim, and
//! goes before another is made in its place. A claim vanishes in one rename, with its data.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::inventory::{BoundClaim, ClaimKey, Inventory, KnownVolume};
use super::users::{self, Use, User};
use super::{ClaimError, record};
use crate::paths::Paths;
use crate::sandbox::record::{RecordError, private_directory};
use crate::sandbox::tree;

const LOCK: &str = ".lock";
const TRASH: &str = ".trash";
const CLAIM: &str = "claim.json";
const VOLUME: &str = "volume.json";
const DATA: &str = "data";
const USERS: &str = "users";

/// Permissions of a directory that peapod makes for a claim, as local-path-provisioner gives: every container may
/// write, whatever its user.
const DATA_MODE: u32 = 0o777;
/// Permissions of the directories above it.
const PRIVATE_MODE: u32 = 0o700;

/// The claims and volumes of this host, and the right to change them.
#[derive(Debug)]
pub struct Registry {
    claims: PathBuf,
    volumes: PathBuf,
    lock: File,
    /// As it is on disk.
    inventory: Inventory,
}

impl Registry {
    /// Whether there is anything.
    pub fn exists(paths: &Paths) -> bool {
        paths.claims().exists()
    }

    /// Waits for the others, and reads all.
    ///
    /// # Errors
    /// The files'; a record that makes no sense.
    pub fn open(paths: &Paths) -> Result<Self, ClaimError> {
        let (claims, volumes) = (paths.claims(), paths.volumes());
        private_directory(&claims)?;
        private_directory(&volumes)?;
        let path = claims.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock)).map_err(failed("lock", &path))?;
        let inventory = load(&claims, &volumes)?;
        Ok(Self { claims, volumes, lock, inventory })
    }

    /// What there is.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// The directory of a claim that peapod made it for.
    pub fn data(&self, key: &ClaimKey) -> PathBuf {
        self.claim(key).join(DATA)
    }

    /// The pods that use a claim.
    ///
    /// # Errors
    /// The files'.
    pub fn users(&self, key: &ClaimKey) -> Result<Vec<User>, ClaimError> {
        let directory = self.claim(key).join(USERS);
        users::all(&directory).map_err(failed("look into", &directory))
    }

    /// Makes a pod a user of a claim.
    ///
    /// # Errors
    /// The files'; a pod of this uid is one already.
    pub fn enter(&self, key: &ClaimKey, user: &User) -> Result<Use, ClaimError> {
        let directory = self.claim(key).join(USERS);
        users::enter(&directory, user).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => RecordError::Running(user.uid.clone()).into(),
            _ => failed("lock the pod's file in", &directory)(error),
        })
    }

    /// Makes what is on disk as `wanted` is.
    ///
    /// # Errors
    /// The files'. What was done until then is whole.
    pub fn commit(&mut self, wanted: Inventory) -> Result<(), ClaimError> {
        for (key, claim) in &wanted.claims {
            match self.inventory.claims.get(key) {
                Some(known) if known == claim => continue,
                Some(_) => {}
                None => self.make(key, claim)?,
            }
            let directory = self.claim(key);
            let text = record::write_claim(claim).map_err(failed("write", &directory.join(CLAIM)))?;
            replace(&directory.join(CLAIM), &text)?;
        }
        for (name, volume) in &wanted.volumes {
            if self.inventory.volumes.get(name) != Some(volume) {
                let directory = self.volumes.join(name);
                make_private(&directory)?;
                let text = record::write_volume(volume).map_err(failed("write", &directory.join(VOLUME)))?;
                replace(&directory.join(VOLUME), &text)?;
            }
        }
        // After the volumes, which must know whose they were.
        for (key, claim) in &self.inventory.claims {
            if !wanted.claims.contains_key(key) {
                self.trash(&self.claim(key), &claim.uid)?;
            }
        }
        for (name, volume) in &self.inventory.volumes {
            if !wanted.volumes.contains_key(name) {
                self.trash(&self.volumes.join(name), &volume.uid)?;
            }
        }
        self.inventory = wanted;
        Ok(())
    }

    /// Lets the others in, and removes what was deleted; what cannot be is left to the next.
    pub fn close(self) {
        let trash = self.claims.join(TRASH);
        drop(self.lock);
        for entry in fs::read_dir(&trash).into_iter().flatten().flatten() {
            tree::remove(&entry.path());
        }
    }

    fn claim(&self, (namespace, name): &ClaimKey) -> PathBuf {
        self.claims.join(namespace).join(name)
    }

    /// The place of a new claim, with its data.
    fn make(&self, key: &ClaimKey, claim: &BoundClaim) -> Result<(), ClaimError> {
        let directory = self.claim(key);
        // Of somebody who died before it was a claim.
        self.trash(&directory, &format!("before-{}", claim.uid))?;
        make_private(&directory)?;
        if claim.volume.is_none() {
            let data = directory.join(DATA);
            let made = fs::create_dir(&data);
            // Whatever the umask is.
            let made = made.and_then(|()| fs::set_permissions(&data, Permissions::from_mode(DATA_MODE)));
            made.map_err(failed("make", &data))?;
        }
        Ok(())
    }

    fn trash(&self, directory: &Path, name: &str) -> Result<(), ClaimError> {
        let trash = self.claims.join(TRASH);
        if !directory.exists() {
            return Ok(());
        }
        make_private(&trash)?;
        fs::rename(directory, trash.join(name)).map_err(failed("remove", directory))
    }
}

fn load(claims: &Path, volumes: &Path) -> Result<Inventory, ClaimError> {
    let mut inventory = Inventory::default();
    for (namespace, directory) in entries(claims)? {
        for (name, directory) in entries(&directory)? {
            if let Some(claim) = read(&directory.join(CLAIM), record::read_claim)? {
                inventory.claims.insert((namespace.clone(), name), claim);
            }
        }
    }
    for (name, directory) in entries(volumes)? {
        if let Some(volume) = read(&directory.join(VOLUME), record::read_volume)? {
            let volume: KnownVolume = volume;
            inventory.volumes.insert(name, volume);
        }
    }
    inventory.heal();
    Ok(inventory)
}

/// The directories in one that names of Kubernetes can have, with their names.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, ClaimError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let entry = entry.map_err(failed("read", directory))?;
        // Not a symbolic link: file_type does not follow.
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Ok(name) = entry.file_name().into_string()
            && is_directory
            && !name.starts_with('.')
        {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn read<T>(path: &Path, parse: impl Fn(&[u8]) -> io::Result<T>) -> Result<Option<T>, ClaimError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(failed("read", path))?,
    };
    parse(&text).map(Some).map_err(|source| ClaimError::Record { path: path.to_owned(), source })
}

/// Writes a file: at any instant, and after any crash, there is the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> Result<(), ClaimError> {
    let fresh = path.with_extension("new");
    let written = (|| {
        let mut file = File::create(&fresh)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        File::open(directory)?.sync_all()
    })();
    written.map_err(failed("write", path))
}

fn make_private(directory: &Path) -> Result<(), ClaimError> {
    let made = DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(directory);
    made.map_err(failed("make", directory))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
    move |source| ClaimError::File { action, path: path.to_owned(), source }
}
