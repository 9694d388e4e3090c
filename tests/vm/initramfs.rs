//! An initramfs image: a cpio archive in the `newc` format, as the kernel unpacks it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::{self, Write};

/// Headers, names and contents start at multiples of this, bytes.
const ALIGNMENT: usize = 4;
const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Writes an archive entry by entry.
pub struct Initramfs<W: Write> {
    out: W,
    written: usize,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Initramfs<W> {
    /// An empty archive with the console that the kernel opens for process 1.
    pub fn new(out: W) -> io::Result<Self> {
        let mut archive = Initramfs { out, written: 0, inode: 0, directories: BTreeSet::new() };
        archive.parents("dev/console")?;
        archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[])?;
        Ok(archive)
    }

    /// Adds a file at an absolute path, with the directories above it.
    pub fn file(&mut self, path: &str, executable: bool, content: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(path)?;
        self.entry(path, REGULAR | if executable { 0o755 } else { 0o644 }, (0, 0), content)
    }

    /// Writes the end mark.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        for (end, _) in path.match_indices('/') {
            if self.directories.insert(path[..end].into()) {
                self.entry(&path[..end], DIRECTORY, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name} is too large")))?;
        let name_size = name.len() as u32 + 1;
        // magic, inode, mode, uid, gid, links, mtime, size, device, its own device number, name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|f| format!("{f:08x}"));
        self.write(format!("070701{}{name}\0", fields.concat()).as_bytes())?;
        self.pad()?;
        self.write(content)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&[0; ALIGNMENT][..missing])
    }
}
