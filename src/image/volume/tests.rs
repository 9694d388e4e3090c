//! Archives and layouts, good and hostile.

use std::cell::RefCell;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::*;

/// One entry of an archive: its name, kind, and content or link target.
type Item<'a> = (&'a str, EntryType, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;

/// An archive with names as they are given, which no decent tool writes.
fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, content) in items {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o4644);
        header.set_mtime(1_000_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        if is_link {
            old.linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if is_link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn resolve(&self, name: &str) -> Result<PathBuf, String> {
        self.resolve_telling(name, &|_| {})
    }

    fn resolve_telling(&self, name: &str, progress: Progress<'_>) -> Result<PathBuf, String> {
        let reference = Reference::Local(self.path(name));
        resolve(&self.path("cache"), &reference, progress).map_err(|error| error.to_string())
    }

    fn archive(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
        fs::write(self.path(name), bytes).unwrap();
        self.resolve(name)
    }

    /// What the cache holds.
    fn cached(&self) -> usize {
        fs::read_dir(self.path("cache/volumes")).map_or(0, Iterator::count)
    }

    /// Writes an OCI layout of these layers: media type, bytes, title.
    fn layout(&self, name: &str, layers: &[(&str, Vec<u8>, Option<&str>)]) {
        let root = self.path(name);
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        let blob = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(root.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
            json!({"digest": digest.to_string(), "size": bytes.len()})
        };
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, bytes, title)| {
                let mut layer = blob(bytes);
                layer["mediaType"] = json!(media_type);
                if let Some(title) = title {
                    layer["annotations"] = json!({"org.opencontainers.image.title": title});
                }
                layer
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": blob(b"{}"), "layers": layers});
        let mut manifest = blob(manifest.to_string().as_bytes());
        manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(root.join("index.json"), index.to_string()).unwrap();
    }
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn read(path: &Path, name: &str) -> String {
    fs::read_to_string(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn a_directory_and_an_artifact_are_what_they_are() {
    let world = World::new();
    fs::create_dir(world.path("data")).unwrap();
    fs::write(world.path("model.bin"), "weights").unwrap();
    assert_eq!(world.resolve("data"), Ok(world.path("data")));
    assert_eq!(world.resolve("model.bin"), Ok(world.path("model.bin")));
    assert!(world.resolve("nothing").unwrap_err().contains("nothing: no such file"));
    assert_eq!(world.cached(), 0);
}

#[test]
fn an_archive_is_unpacked_once() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let items = [
        ("./", DIR, ""),
        ("./a/b/file", FILE, "first"),
        ("a/b/file", FILE, "second"),
        ("a/link", LINK, "b/file"),
        ("a/hard", EntryType::Link, "./a/b/file"),
        ("a/out", LINK, "/etc/passwd"),
        ("empty/", DIR, ""),
        (".wh.kept", FILE, "of no layer"),
    ];
    let told = RefCell::new(0);
    let count = |event: Event<'_>| *told.borrow_mut() += usize::from(matches!(event, Event::Unpacked { .. }));
    fs::write(world.path("x.tar"), tar(&items)).unwrap();
    let unpacked = world.resolve_telling("x.tar", &count).unwrap();
    assert_eq!(read(&unpacked, "a/b/file"), "second");
    assert_eq!(read(&unpacked, "a/link"), "second");
    assert_eq!(read(&unpacked, "a/hard"), "second");
    assert_eq!(read(&unpacked, ".wh.kept"), "of no layer");
    assert_eq!(fs::read_link(unpacked.join("a/out")).unwrap(), Path::new("/etc/passwd"));
    assert!(unpacked.join("empty").is_dir());
    let metadata = fs::metadata(unpacked.join("a/b/file")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o644, 1_000_000_000));
    assert_eq!(world.resolve_telling("x.tar", &count), Ok(unpacked));
    assert_eq!((*told.borrow(), world.cached()), (1, 1));
    // Another packing is another archive.
    for name in ["x.tar.gz", "x.TGZ"] {
        let unpacked = world.archive(name, &gzip(&tar(&items))).unwrap();
        assert_eq!(read(&unpacked, "a/b/file"), "second");
    }
    assert_eq!(world.cached(), 2);
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    let out = outside.to_str().unwrap();
    let mut large = tar(&[]);
    let mut header = Header::new_gnu();
    header.set_path("large").unwrap();
    header.set_size(u64::MAX >> 3);
    header.set_cksum();
    large.splice(0..0, header.as_bytes().iter().copied());
    let mut long_name = Header::new_gnu();
    long_name.set_path("././@LongLink").unwrap();
    long_name.set_entry_type(EntryType::GNULongName);
    long_name.set_size(4 << 20);
    long_name.set_cksum();
    let mut bomb = long_name.as_bytes().to_vec();
    bomb.resize(bomb.len() + (4 << 20), b'a');
    for (name, bytes, part) in [
        ("dots", tar(&[("a/../../out", FILE, "x")]), "not one inside of the archive"),
        ("absolute", tar(&[("/tmp/escaped-by-archive", FILE, "x")]), "not one inside of the archive"),
        ("through", tar(&[("l", LINK, out), ("l/f", FILE, "x")]), "l/f"),
        ("up", tar(&[("l", LINK, "../../../outside"), ("l/f", FILE, "x")]), "l/f"),
        ("hard", tar(&[("h", EntryType::Link, "../../../index")]), "not one inside of the archive"),
        ("hard-link", tar(&[("l", LINK, "/etc/passwd"), ("h", EntryType::Link, "l")]), "what is no file"),
        ("device", tar(&[("d", EntryType::Char, "")]), "a device or FIFO"),
        ("fifo", tar(&[("d", EntryType::Fifo, "")]), "a device or FIFO"),
        ("root", tar(&[(".", FILE, "x")]), "the volume itself"),
        ("strange", tar(&[("s", EntryType::new(b'Z'), "x")]), "unknown type 'Z'"),
        ("large", large, "larger than 64 GiB"),
        ("bomb", bomb, "no archive that can be unpacked"),
        ("cut", tar(&[("f", FILE, "content")])[..515].to_vec(), "unexpected EOF"),
        ("text", b"this is no archive".repeat(100), "no archive that can be unpacked"),
    ] {
        let file = format!("{name}.tar");
        let error = world.archive(&file, &bytes).unwrap_err();
        assert!(error.contains(part) && error.contains(&file), "{name}: {error}");
    }
    let error = world.archive("x.tgz", b"no gzip").unwrap_err();
    assert!(error.contains("x.tgz"), "{error}");
    assert_eq!((world.cached(), fs::read_dir(&outside).unwrap().count()), (0, 0));
    assert!(!Path::new("/tmp/escaped-by-archive").exists());
}

#[test]
fn layers_are_applied_in_order_with_whiteouts() {
    let world = World::new();
    let first = tar(&[
        ("keep", FILE, "1"),
        ("gone", FILE, "1"),
        ("tree/a/b", FILE, "1"),
        ("opaque/old/deep", FILE, "1"),
        ("opaque/both/old", FILE, "1"),
        ("file-to-dir", FILE, "1"),
        ("lib", LINK, "usr/lib"),
        ("usr/lib/one", FILE, "1"),
    ]);
    let second = tar(&[
        (".wh.gone", FILE, ""),
        ("tree/.wh.a", FILE, ""),
        (".wh.never", FILE, ""),
        ("opaque/new", FILE, "2"),
        ("opaque/both/new", FILE, "2"),
        ("opaque/.wh..wh..opq", FILE, ""),
        ("file-to-dir/inside", FILE, "2"),
        ("lib/two", FILE, "2"),
    ]);
    // What is in the way of a directory is taken away by its own entry.
    let second = {
        let mut with = tar(&[("file-to-dir/", DIR, "")]);
        with.truncate(512);
        with.extend(second);
        with
    };
    world.layout("image", &[(TAR, first, None), (TAR_GZIP, gzip(&second), None)]);
    let unpacked = world.resolve("image").unwrap();
    for (name, content) in [
        ("keep", "1"),
        ("opaque/new", "2"),
        ("opaque/both/new", "2"),
        ("file-to-dir/inside", "2"),
        ("usr/lib/one", "1"),
        ("usr/lib/two", "2"),
    ] {
        assert_eq!(read(&unpacked, name), content, "{name}");
    }
    for name in ["gone", "tree/a", "opaque/old", "opaque/both/old", ".wh.gone", "opaque/.wh..wh..opq"] {
        assert!(!unpacked.join(name).exists(), "{name}");
    }
    assert!(unpacked.join("tree").is_dir());
    assert_eq!(world.resolve("image"), Ok(unpacked));
    assert_eq!(world.cached(), 1);
}

#[test]
fn a_layout_in_an_archive_and_one_of_files() {
    let world = World::new();
    world.layout("artifact", &[("application/x-model", b"weights".to_vec(), Some("model.bin"))]);
    let unpacked = world.resolve("artifact").unwrap();
    assert_eq!(read(&unpacked, "model.bin"), "weights");
    let mut builder = Builder::new(Vec::new());
    builder.append_dir_all(".", world.path("artifact")).unwrap();
    let unpacked = world.archive("artifact.tar", &builder.into_inner().unwrap()).unwrap();
    assert_eq!(read(&unpacked, "model.bin"), "weights");
    assert!(!unpacked.join("oci-layout").exists());
    assert_eq!(world.cached(), 2);
}

#[test]
fn a_bad_layout_is_refused_and_leaves_nothing() {
    let world = World::new();
    let good = || tar(&[("f", FILE, "x")]);
    let damage = |name: &str, bytes: &[u8]| {
        let path = world.path(name).join("blobs/sha256").join(Digest::of(&good()).hex());
        fs::write(path, bytes).unwrap();
    };
    world.layout("changed", &[(TAR, good(), None)]);
    damage("changed", &tar(&[("f", FILE, "y")]));
    world.layout("longer", &[(TAR, good(), None)]);
    damage("longer", &[good(), vec![0; 512]].concat());
    world.layout("missing", &[(TAR, good(), None)]);
    fs::remove_file(world.path("missing/blobs/sha256").join(Digest::of(&good()).hex())).unwrap();
    world.layout("zstd", &[("application/vnd.oci.image.layer.v1.tar+zstd", good(), None)]);
    world.layout("whiteout", &[(TAR, tar(&[("a/.wh...", FILE, "")]), None)]);
    world.layout("title", &[("application/x", good(), Some("../out"))]);
    world.layout("empty", &[]);
    fs::write(world.path("empty/index.json"), r#"{"manifests": []}"#).unwrap();
    world.layout("nonsense", &[]);
    fs::write(world.path("nonsense/index.json"), "[").unwrap();
    world.layout("sha512", &[]);
    let index = r#"{"manifests": [{"digest": "sha512:00/../../x", "size": 1}]}"#;
    fs::write(world.path("sha512/index.json"), index).unwrap();
    for (name, part) in [
        ("changed", "is damaged"),
        ("longer", "is damaged"),
        ("missing", "has no file"),
        ("zstd", "tar+zstd"),
        ("whiteout", "not one inside"),
        ("title", "not one inside"),
        ("empty", "no manifest"),
        ("nonsense", "cannot be read"),
        ("sha512", "64 digits are wanted"),
    ] {
        let error = world.resolve(name).unwrap_err();
        assert!(error.contains(part) && error.contains(name), "{name}: {error}");
    }
    assert_eq!(world.cached(), 0);
}

#[test]
fn what_is_in_use_is_not_pruned() {
    let world = World::new();
    let age = |path: &Path| {
        let old = SystemTime::now() - cache::MAX_AGE - std::time::Duration::from_secs(60);
        File::open(path).unwrap().set_modified(old).unwrap();
    };
    let used = world.archive("used.tar", &tar(&[("f", FILE, "used")])).unwrap();
    let unused = world.archive("unused.tar", &tar(&[("f", FILE, "unused")])).unwrap();
    let left = world.path("cache/volumes/.new-1-1");
    fs::create_dir(&left).unwrap();
    let lock = File::open(&used).unwrap();
    lock.lock_shared().unwrap();
    for path in [&used, &unused, &left] {
        age(path);
    }
    world.archive("new.tar", &tar(&[("f", FILE, "new")])).unwrap();
    assert!(used.exists() && !unused.exists() && !left.exists());
}
