//! Tries at random to get out of a mount, by the raw calls of `wasi:filesystem` 0.2: libc would change the paths.
//!
//! The host puts what must not be reached beside the mount, and changes the tree meanwhile (`tests/pods/escapes.rs`).

use std::process::ExitCode;

use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use crate::{Failure, Outcome, arg, number};

/// What only files beside the mount contain.
const SECRET: &[u8] = b"SECRET-OF-THE-HOST";
/// What only a directory beside the mount has.
const CANARY: &str = "canary";
/// Bytes in a file beside the mount, and in no other.
const SECRET_SIZE: u64 = 7919;
/// Open directories that paths start at, besides the mount itself.
const DIRECTORIES: usize = 8;

/// Names that exist at times, in the mount or where its links lead.
const NAMES: [&str; 16] = [
    "swap0",
    "swap1",
    "swap2",
    "swap3",
    "dir",
    "dir/swap4",
    "dir/deep/swap5",
    "file",
    "new",
    "link",
    "outside",
    "secret",
    "canary",
    "moved",
    "dir/deep",
    "hard",
];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

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
    let random = Random(number::<u64>(args, 1, "SEED")? | 1);
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
    fn path(&mut self) -> String {
        let mut path = String::new();
        if self.random.one_in(8) {
            let base = self.base.clone();
            path.push_str(self.random.of(&[
                "/",
                "//",
                "/proc/self/root/",
                "/proc/self/cwd/",
                "/proc/self/fd/3/",
                "/proc/thread-self/root",
                "../../../../../../../../../../../../",
                &format!("{base}/outside/"),
                &format!("{base}/mount/../"),
                "./",
                "\u{0}/",
            ]));
        }
        // Short ones more often than long ones: they lead somewhere.
        for _ in 0..=self.random.below(5).min(self.random.below(5)) {
            let part = match self.random.below(40) {
                0..=4 => "..".to_owned(),
                5 => ".".to_owned(),
                6 => String::new(),
                7 => "x".repeat(self.random.below(300)),
                8 => ["\u{0}", "\n", "..\u{0}", "\u{2024}.", ".. ", "...", "\\..", "%2e%2e", "\u{feff}"]
                    [self.random.below(9)]
                .to_owned(),
                9 => self.base[1..].to_owned(),
                10 => "../outside/secret".to_owned(),
                _ => self.random.of(&NAMES).to_owned(),
            };
            path.push_str(&part);
            path.push_str(self.random.of(&["/", "/", "/", "/", "//", "/./"]));
        }
        if !self.random.one_in(4) {
            path.truncate(path.trim_end_matches('/').len());
        }
        if self.random.one_in(2000) {
            path.push_str(&"/a".repeat(3000));
        }
        path
    }

    fn flags(&mut self) -> PathFlags {
        if self.random.one_in(3) { PathFlags::empty() } else { PathFlags::SYMLINK_FOLLOW }
    }

    fn escaped(&mut self, how: &str, path: &str) {
        if self.escapes.len() < 100 {
            self.escapes.push(format!("{how} {path}"));
        }
    }

    fn operation(&mut self) -> Result<(), ErrorCode> {
        let path = self.path();
        let other = self.path();
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
