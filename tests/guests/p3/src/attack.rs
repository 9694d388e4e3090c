//! Tries at random to get out of a mount, by `wasi:filesystem` 0.3: as `attack` of `probe` does.

use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_stream;

use crate::Failure;
use crate::paths::{CANARY, Random, SECRET, SECRET_SIZE};
use crate::stdio::Stdout;

/// Open directories that paths start at, besides the mount itself.
const DIRECTORIES: usize = 8;

struct Attack {
    random: Random,
    mount: Descriptor,
    directories: Vec<Descriptor>,
    base: String,
    escapes: Vec<String>,
}

/// So many random operations. Prints a line for each escape, and fails when there was one.
pub async fn attack(
    path: &str,
    seed: u64,
    operations: u64,
    base: &str,
    out: &mut Stdout,
) -> Result<(), Failure> {
    let mut mounts = preopens::get_directories().into_iter();
    let mount = mounts.find(|(_, mounted)| mounted == path);
    let (mount, _) = mount.ok_or_else(|| format!("{path}: no mount"))?;
    let mut attack = Attack {
        random: Random::new(seed),
        mount,
        directories: Vec::new(),
        base: base.to_owned(),
        escapes: Vec::new(),
    };
    let mut worked = 0_u64;
    for _ in 0..operations {
        worked += u64::from(attack.operation().await.is_ok());
    }
    for escape in &attack.escapes {
        out.line(&format!("ESCAPED {escape:?}")).await;
    }
    let escapes = attack.escapes.len();
    out.line(&format!("{operations} operations, {worked} worked, {escapes} escapes")).await;
    if escapes == 0 { Ok(()) } else { Err(format!("{escapes} escapes")) }
}

impl Attack {
    fn escaped(&mut self, how: &str, path: &str) {
        if self.escapes.len() < 100 {
            self.escapes.push(format!("{how} {path}"));
        }
    }

    async fn operation(&mut self) -> Result<(), ErrorCode> {
        let path = self.random.path(&self.base);
        let other = self.random.path(&self.base);
        let follow = !self.random.one_in(3);
        let flags = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
        let (kind, at, to) =
            (self.random.below(20), self.random.below(DIRECTORIES * 2), self.random.below(DIRECTORIES * 2));
        let from = self.directories.get(at).unwrap_or(&self.mount);
        let onto = self.directories.get(to).unwrap_or(&self.mount);
        match kind {
            0..=5 => return self.open(path, flags, at).await,
            6 => from.create_directory_at(path).await?,
            7 => from.rename_at(path, onto, other).await?,
            8 => from.link_at(flags, path, onto, other).await?,
            9 | 10 => from.symlink_at(other, path).await?,
            11 => drop(from.readlink_at(path).await?),
            12 => from.unlink_file_at(path).await?,
            13 => from.remove_directory_at(path).await?,
            14 => from.set_times_at(flags, path, NewTimestamp::Now, NewTimestamp::Now).await?,
            15 => drop(from.metadata_hash_at(flags, path).await?),
            _ => {
                let stat = from.stat_at(flags, path.clone()).await?;
                if stat.size == SECRET_SIZE && matches!(stat.type_, DescriptorType::RegularFile) {
                    self.escaped("stat", &path);
                }
            }
        }
        Ok(())
    }

    async fn open(&mut self, path: String, flags: PathFlags, at: usize) -> Result<(), ErrorCode> {
        let mut open = OpenFlags::empty();
        for flag in [OpenFlags::CREATE, OpenFlags::TRUNCATE, OpenFlags::EXCLUSIVE, OpenFlags::DIRECTORY] {
            open.set(flag, self.random.one_in(5));
        }
        let mut mode = DescriptorFlags::READ;
        mode.set(DescriptorFlags::WRITE, self.random.one_in(3) && !open.contains(OpenFlags::DIRECTORY));
        mode.set(DescriptorFlags::MUTATE_DIRECTORY, self.random.one_in(2));
        let from = self.directories.get(at).unwrap_or(&self.mount);
        let opened = from.open_at(flags, path.clone(), open, mode).await?;
        if matches!(opened.get_type().await?, DescriptorType::Directory) {
            let (entries, done) = opened.read_directory();
            for entry in entries.collect().await {
                if entry.name == CANARY && matches!(entry.type_, DescriptorType::CharacterDevice) {
                    self.escaped("list", &path);
                }
            }
            done.await?;
            let place = self.random.below(DIRECTORIES);
            if self.directories.len() < DIRECTORIES {
                self.directories.push(opened);
            } else {
                self.directories[place] = opened;
            }
            return Ok(());
        }
        // A device such as the canary ends no earlier than that it is read from; a file of the test is small.
        if matches!(opened.get_type().await?, DescriptorType::RegularFile) {
            let (bytes, done) = opened.read_via_stream(0);
            let bytes = bytes.collect().await;
            done.await?;
            if bytes.windows(SECRET.len()).any(|window| window == SECRET) {
                self.escaped("read", &path);
            }
        }
        if mode.contains(DescriptorFlags::WRITE) {
            let (mut bytes, reader) = wit_stream::new();
            let done = opened.write_via_stream(reader, 0);
            bytes.write_all(b"by the guest".to_vec()).await;
            drop(bytes);
            done.await?;
            if self.random.one_in(4) {
                opened.set_size(5).await?;
            }
        }
        Ok(())
    }
}
