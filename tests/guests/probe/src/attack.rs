//! Tries at random to get out of a mount, by the raw calls of `wasi:filesystem` 0.2: libc would change the paths.
//!
//! The host puts what must not be reached beside the mount, and changes the tree meanwhile (`tests/pods/escapes.rs`).

use std::process::ExitCode;

use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use crate::paths::{CANARY, Random, SECRET, SECRET_SIZE};
use crate::{Failure, Outcome, arg, number};

/// Open directories that paths start at, besides the mount itself.
const DIRECTORIES: usize = 8;

struct Attack {
    random: Random,
    mount: Descriptor,
    directories: Vec<Descriptor>,
    /// The host's directory that has the mount, and beside it what must not be reached.
    base: String,
    escapes: Vec<String>,
}

/// `attack MOUNT SEED OPERATIONS BASE`: so many random operations. Prints a line for each escape; exit code 1 when
/// there was one.
pub fn attack(args: &[String]) -> Outcome {
    let path = arg(args, 0, "MOUNT")?;
    let mut mounts = preopens::get_directories().into_iter();
    let mount = mounts.find(|(_, mounted)| mounted == path);
    let (mount, _) = mount.ok_or_else(|| Failure(format!("{path}: no mount")))?;
    let random = Random::new(number(args, 1, "SEED")?);
    let operations = number::<u64>(args, 2, "OPERATIONS")?;
    let base = arg(args, 3, "BASE")?.to_owned();
    let mut attack = Attack { random, mount, directories: Vec::new(), base, escapes: Vec::new() };
    let mut worked = 0_u64;
    for _ in 0..operations {
        worked += u64::from(attack.operation().is_ok());
    }
    attack.escapes.iter().for_each(|escape| println!("ESCAPED {escape:?}"));
    println!("{operations} operations, {worked} worked, {} escapes", attack.escapes.len());
    Ok(if attack.escapes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Attack {
    fn flags(&mut self) -> PathFlags {
        if self.random.one_in(3) { PathFlags::empty() } else { PathFlags::SYMLINK_FOLLOW }
    }

    fn escaped(&mut self, how: &str, path: &str) {
        if self.escapes.len() < 100 {
            self.escapes.push(format!("{how} {path}"));
        }
    }

    fn operation(&mut self) -> Result<(), ErrorCode> {
        let path = self.random.path(&self.base);
        let other = self.random.path(&self.base);
        let flags = self.flags();
        let (kind, at, to) =
            (self.random.below(20), self.random.below(DIRECTORIES * 2), self.random.below(DIRECTORIES * 2));
        let from = self.directories.get(at).unwrap_or(&self.mount);
        let onto = self.directories.get(to).unwrap_or(&self.mount);
        match kind {
            0..=5 => return self.open(&path, flags, at),
            6 => from.create_directory_at(&path)?,
            7 => from.rename_at(&path, onto, &other)?,
            8 => from.link_at(flags, &path, onto, &other)?,
            9 | 10 => from.symlink_at(&other, &path)?,
            11 => drop(from.readlink_at(&path)?),
            12 => from.unlink_file_at(&path)?,
            13 => from.remove_directory_at(&path)?,
            14 => from.set_times_at(flags, &path, NewTimestamp::Now, NewTimestamp::Now)?,
            15 => drop(from.metadata_hash_at(flags, &path)?),
            _ => {
                let stat = from.stat_at(flags, &path)?;
                if stat.size == SECRET_SIZE && stat.type_ == DescriptorType::RegularFile {
                    self.escaped("stat", &path);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, path: &str, flags: PathFlags, at: usize) -> Result<(), ErrorCode> {
        let mut open = OpenFlags::empty();
        for flag in [OpenFlags::CREATE, OpenFlags::TRUNCATE, OpenFlags::EXCLUSIVE, OpenFlags::DIRECTORY] {
            open.set(flag, self.random.one_in(5));
        }
        let mut mode = DescriptorFlags::READ;
        mode.set(DescriptorFlags::WRITE, self.random.one_in(3) && !open.contains(OpenFlags::DIRECTORY));
        mode.set(DescriptorFlags::MUTATE_DIRECTORY, self.random.one_in(2));
        let from = self.directories.get(at).unwrap_or(&self.mount);
        let opened = from.open_at(flags, path, open, mode)?;
        if opened.get_type()? == DescriptorType::Directory {
            let names = opened.read_directory()?;
            while let Ok(Some(entry)) = names.read_directory_entry() {
                if entry.name == CANARY && entry.type_ == DescriptorType::CharacterDevice {
                    self.escaped("list", path);
                }
            }
            drop(names);
            let place = self.random.below(DIRECTORIES);
            if self.directories.len() < DIRECTORIES {
                self.directories.push(opened);
            } else {
                self.directories[place] = opened;
            }
            return Ok(());
        }
        let (bytes, _) = opened.read(64, 0)?;
        if bytes.windows(SECRET.len()).any(|window| window == SECRET) {
            self.escaped("read", path);
        }
        if mode.contains(DescriptorFlags::WRITE) {
            opened.write(b"by the guest", 0)?;
            if self.random.one_in(4) {
                opened.set_size(5)?;
            }
        }
        Ok(())
    }
}
