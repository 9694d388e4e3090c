//! The writer against a model, and against readers that look on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use proptest::prelude::*;

use super::payload::{FileContent, Payload};
use super::writer::{self, Written, discard};

fn open(path: &Path) -> Dir {
    Dir::open_ambient_dir(path, ambient_authority()).unwrap()
}

fn write(
    volume: &Dir,
    payload: &Payload,
    own: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<Written> {
    writer::write(volume, payload, own, |_, swap| swap())
}

fn files(files: &[(&str, &str)]) -> Payload {
    let file = |(path, text): &(&str, &str)| {
        (PathBuf::from(path), FileContent { bytes: text.as_bytes().to_vec(), mode: 0o644 })
    };
    files.iter().map(file).collect()
}

/// Writes and removes what was before, as a volume that nobody holds on to.
fn update(volume: &Dir, payload: &Payload) -> Written {
    let written = write(volume, payload, || Ok(())).unwrap();
    if let Written::Changed { before: Some(before), .. } = &written {
        discard(volume, before).unwrap();
    }
    written
}

fn names(path: &Path) -> BTreeSet<String> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every file with its text and mode, as one sees them who looks from outside and follows links.
fn seen(path: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let mut seen = BTreeMap::new();
    let mut todo: Vec<PathBuf> =
        names(path).into_iter().filter(|name| !name.starts_with("..")).map(PathBuf::from).collect();
    while let Some(here) = todo.pop() {
        let full = path.join(&here);
        let metadata = fs::metadata(&full).unwrap();
        if metadata.is_dir() {
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o755, "{}", here.display());
            todo.extend(names(&full).into_iter().map(|name| here.join(name)));
        } else {
            seen.insert(here, (fs::read(&full).unwrap(), metadata.permissions().mode() & 0o7777));
        }
    }
    seen
}

#[test]
fn files_are_links_through_the_current_generation() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(dir.path());
    let Written::Changed { before: None, now } =
        update(&volume, &files(&[("a", "1"), ("d/x", "2"), ("d/e/y", "3")]))
    else {
        panic!("not written");
    };
    let now = now.into_string().unwrap();
    assert_eq!(names(dir.path()), ["..data", "a", "d", &now].map(str::to_owned).into());
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    assert_eq!(now.chars().map(digits).collect::<String>(), "..0000_00_00_00_00_00.000000000");
    let link = |name: &str| fs::read_link(dir.path().join(name)).unwrap();
    assert_eq!(link("..data"), Path::new(&now));
    assert_eq!((link("a"), link("d")), ("..data/a".into(), "..data/d".into()));
    assert_eq!(fs::read_to_string(dir.path().join("d/e/y")).unwrap(), "3");
}

#[test]
fn the_same_files_are_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(dir.path());
    let payload = files(&[("a", "1"), ("d/x", "2")]);
    update(&volume, &payload);
    let before = names(dir.path());
    assert_eq!(update(&volume, &payload), Written::Unchanged);
    assert_eq!(names(dir.path()), before);
    for other in
        [files(&[("a", "1")]), files(&[("a", "1"), ("d/x", "3")]), files(&[("a", "1"), ("d/y", "2")])]
    {
        assert_ne!(update(&volume, &other), Written::Unchanged);
        assert_eq!(seen(dir.path()).len(), other.len());
    }
    update(&volume, &files(&[]));
    assert_eq!(update(&volume, &files(&[])), Written::Unchanged);
}

#[test]
fn a_failure_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(dir.path());
    update(&volume, &files(&[("a", "1")]));
    let before = names(dir.path());
    let failed = write(&volume, &files(&[("a", "2")]), || Err(std::io::Error::other("no")));
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert_eq!(names(dir.path()), before);
    assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
}

#[test]
fn the_owner_is_given_before_anyone_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(dir.path());
    let own = || {
        let names = names(dir.path());
        assert_eq!(names.len(), 1, "neither ..data nor d: {names:?}");
        let file = dir.path().join(names.first().unwrap()).join("d/x");
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        fs::set_permissions(file, fs::Permissions::from_mode(0o640))
    };
    write(&volume, &files(&[("d/x", "1")]), own).unwrap();
    assert_eq!(seen(dir.path())[Path::new("d/x")], (b"1".to_vec(), 0o640));
}

/// Payloads without a file that is a directory of another.
fn payloads() -> impl Strategy<Value = Vec<Payload>> {
    let path =
        prop::sample::select(vec!["a", "b", "c", "d/x", "d/y", "d/e/z", "e/x", "e/f/g/h", ".hidden", "a..b"]);
    let mode = prop::sample::select(vec![0o644, 0o400, 0o600, 0o755, 0o777]);
    let file = (path, ("[ab]{0,2}", mode));
    let payload = prop::collection::btree_map(file.0, file.1, 0..6).prop_map(|files| {
        let file = |(path, (text, mode)): (&str, (String, u32))| {
            (PathBuf::from(path), FileContent { bytes: text.into_bytes(), mode })
        };
        files.into_iter().map(file).collect::<Payload>()
    });
    prop::collection::vec(payload, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_seen_is_what_was_written_last(payloads in payloads()) {
        let dir = tempfile::tempdir().unwrap();
        let volume = open(dir.path());
        for payload in &payloads {
            let changed = update(&volume, payload) != Written::Unchanged;
            let seen = seen(dir.path());
            let bytes = |(path, (bytes, _)): (&PathBuf, &(Vec<u8>, u32))| (path.clone(), bytes.clone());
            let expected: BTreeMap<_, _> =
                payload.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect();
            prop_assert_eq!(seen.iter().map(bytes).collect::<BTreeMap<_, _>>(), expected);
            if changed {
                prop_assert!(payload.iter().all(|(path, file)| seen[path].1 == file.mode));
            }
            let own: Vec<_> = names(dir.path()).into_iter().filter(|name| name.starts_with("..2")).collect();
            prop_assert_eq!(own.len(), 1, "one generation is left");
            let tops: BTreeSet<_> = payload.keys().filter_map(|path| path.iter().next()).collect();
            prop_assert_eq!(names(dir.path()).len(), tops.len() + 2);
        }
    }
}

/// A reader that takes one generation sees files of that alone, or finds that it is gone.
#[test]
fn a_reader_never_sees_a_mix() {
    const SWAPS: u32 = 1000;
    const FILES: u32 = 8;
    let dir = tempfile::tempdir().unwrap();
    let volume = open(dir.path());
    let payload = |round: u32| -> Payload {
        // Their number changes too.
        let file = |number| {
            let bytes = format!("{round} of {}", round % FILES + 1).into_bytes();
            (PathBuf::from(format!("file-{number}")), FileContent { bytes, mode: 0o644 })
        };
        (0..=round % FILES).map(file).collect()
    };
    update(&volume, &payload(0));
    let done = AtomicBool::new(false);
    let whole = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (volume, mut whole) = (open(dir.path()), 0u32);
            while !done.load(Ordering::Relaxed) {
                // As a guest does it: through the link, beneath the volume.
                let Ok(generation) = volume.open_dir("..data") else { continue };
                let Ok(entries) = generation.entries().and_then(Iterator::collect::<Result<Vec<_>, _>>)
                else {
                    continue;
                };
                let texts: Result<Vec<_>, _> =
                    entries.iter().map(|entry| generation.read_to_string(entry.file_name())).collect();
                // Gone meanwhile: read again, as one has to.
                let Ok(texts) = texts else { continue };
                let Some(first) = texts.first() else { continue };
                assert!(texts.iter().all(|text| text == first), "{texts:?}");
                let count: usize = first.split(" of ").nth(1).unwrap().parse().unwrap();
                if texts.len() == count {
                    whole += 1;
                } else {
                    assert!(volume.read_link("..data").is_ok() && texts.len() < count, "{texts:?}");
                }
            }
            whole
        });
        let by_name = scope.spawn(|| {
            let (volume, mut last) = (open(dir.path()), 0);
            while !done.load(Ordering::Relaxed) {
                // Gone between two steps of the path: read again, as in Kubernetes.
                let Ok(text) = volume.read_to_string("file-0") else { continue };
                let round: u32 = text.split(" of ").next().unwrap().parse().unwrap();
                assert!(last <= round, "time goes forward");
                last = round;
            }
        });
        for round in 1..=SWAPS {
            update(&volume, &payload(round));
        }
        done.store(true, Ordering::Relaxed);
        by_name.join().unwrap();
        reader.join().unwrap()
    });
    assert!(whole > 0, "the reader saw something");
}

#[test]
fn names_that_are_missing_are_made_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(dir.path());
    let payload = files(&[("a", "1"), ("d/x", "2")]);
    write(&volume, &payload, || Ok(())).unwrap();
    fs::remove_file(dir.path().join("d")).unwrap();
    std::os::unix::fs::symlink("..data/old", dir.path().join("old")).unwrap();
    assert_eq!(write(&volume, &payload, || Ok(())).unwrap(), Written::Unchanged);
    assert_eq!(fs::read_to_string(dir.path().join("d/x")).unwrap(), "2");
    assert!(fs::symlink_metadata(dir.path().join("old")).is_err());
}
