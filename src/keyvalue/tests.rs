//! The store against a map, its bounds, its files, and many at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

fn volume(directory: &Path, durable: bool) -> Place {
    let directory = Dir::open_ambient_dir(directory, ambient_authority()).unwrap();
    Place::Volume { name: "data".into(), directory, durable }
}

fn store(place: Place) -> Arc<Store> {
    Arc::new(Store::new(place, Arc::new(Semaphore::new(MAX_OPERATIONS))))
}

async fn open(place: Place, name: &str) -> Result<Bucket> {
    let store = store(place);
    store.open().await?;
    Ok(Bucket::new(store, name.into()))
}

fn words(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// What a container does to one of two buckets.
#[derive(Debug, Clone)]
enum Step {
    Set(u8, Vec<u8>),
    Delete(u8),
    Increment(u8, i64),
    SetMany(Vec<(u8, Vec<u8>)>),
    DeleteMany(Vec<u8>),
    /// A compare-and-swap, with another write between its begin and its end or without.
    Swap(u8, Vec<u8>, Option<Vec<u8>>),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let key = || 0..6u8;
    let value = || {
        let number = any::<i64>().prop_map(|number| number.to_string().into_bytes());
        prop_oneof![number, prop::collection::vec(any::<u8>(), 0..40)]
    };
    let step = prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Step::Set(key, value)),
        2 => key().prop_map(Step::Delete),
        4 => (key(), prop_oneof![-3..3i64, any::<i64>()]).prop_map(|(key, delta)| Step::Increment(key, delta)),
        1 => prop::collection::vec((key(), value()), 0..5).prop_map(Step::SetMany),
        1 => prop::collection::vec(key(), 0..5).prop_map(Step::DeleteMany),
        2 => (key(), value(), prop::option::of(value())).prop_map(|(k, v, w)| Step::Swap(k, v, w)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec((any::<bool>(), step), 1..40)
}

type Model = BTreeMap<(bool, String), Vec<u8>>;

async fn take(step: Step, which: bool, bucket: &Bucket, model: &mut Model) {
    let key = |key: u8| format!("k{key}");
    match step {
        Step::Set(at, value) => {
            bucket.set(key(at), value.clone()).await.unwrap();
            model.insert((which, key(at)), value);
        }
        Step::Delete(at) => {
            bucket.delete(key(at)).await.unwrap();
            model.remove(&(which, key(at)));
        }
        Step::Increment(at, delta) => {
            let before = match model.get(&(which, key(at))) {
                Some(value) => std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
                None => Some(0),
            };
            let sum = before.and_then(|before| before.checked_add(delta));
            assert_eq!(bucket.increment(key(at), delta).await.ok(), sum);
            if let Some(sum) = sum {
                model.insert((which, key(at)), sum.to_string().into_bytes());
            }
        }
        Step::SetMany(pairs) => {
            let pairs: Vec<_> = pairs.into_iter().map(|(at, value)| (key(at), value)).collect();
            bucket.set_many(pairs.clone()).await.unwrap();
            model.extend(pairs.into_iter().map(|(key, value)| ((which, key), value)));
        }
        Step::DeleteMany(keys) => {
            bucket.delete_many(keys.iter().map(|at| key(*at)).collect()).await.unwrap();
            keys.iter().for_each(|at| _ = model.remove(&(which, key(*at))));
        }
        Step::Swap(at, value, between) => {
            let mut cas = bucket.cas(key(at)).await.unwrap();
            assert_eq!(cas.current().await.unwrap().as_ref(), model.get(&(which, key(at))));
            let disturbed = between.is_some();
            if let Some(between) = between {
                bucket.set(key(at), between.clone()).await.unwrap();
                model.insert((which, key(at)), between);
            }
            match cas.swap(value.clone()).await.unwrap() {
                Swap::Done => assert!(!disturbed),
                Swap::Changed(mut next) => {
                    assert!(disturbed);
                    assert_eq!(next.current().await.unwrap().as_ref(), model.get(&(which, key(at))));
                    assert!(matches!(next.swap(value.clone()).await.unwrap(), Swap::Done));
                }
            }
            model.insert((which, key(at)), value);
        }
        Step::Reopen => unreachable!("by the caller"),
    }
}

async fn same(which: bool, bucket: &Bucket, model: &Model) {
    let of = model.iter().filter(|((its, _), _)| *its == which);
    let expected: Vec<_> = of.map(|((_, key), value)| (key.clone(), Some(value.clone()))).collect();
    let page = bucket.list(None).await.unwrap();
    assert_eq!(page.keys, expected.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
    assert_eq!(page.cursor, None);
    assert_eq!(bucket.get_many(page.keys).await.unwrap(), expected);
    for at in 0..6u8 {
        let key = format!("k{at}");
        let value = model.get(&(which, key.clone()));
        assert_eq!(bucket.exists(key.clone()).await.unwrap(), value.is_some());
        assert_eq!(bucket.get(key).await.unwrap().as_ref(), value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_does_what_a_map_does_also_when_opened_anew(steps in steps(), own in any::<bool>()) {
        Runtime::new().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let place = || match own {
                true => Place::Own(directory.path().join("own")),
                false => volume(directory.path(), false),
            };
            let buckets = async || {
                let store = store(place());
                store.open().await.unwrap();
                ["a", "ab"].map(|name| Bucket::new(Arc::clone(&store), name.into()))
            };
            let mut model = Model::new();
            let mut opened = buckets().await;
            for (which, step) in steps {
                if let Step::Reopen = step {
                    drop(opened);
                    opened = buckets().await;
                    continue;
                }
                take(step, which, &opened[usize::from(which)], &mut model).await;
            }
            for which in [false, true] {
                same(which, &opened[usize::from(which)], &model).await;
            }
        });
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_changes() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), false), "b").await.unwrap();
    let key = |number: usize| format!("{number:05}");
    let all = 2 * MAX_PAGE_KEYS + 1;
    for chunk in (0..all).collect::<Vec<_>>().chunks(MAX_BATCH_KEYS) {
        bucket.set_many(chunk.iter().map(|number| (key(*number), vec![])).collect()).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = bucket.list(cursor).await.unwrap();
        seen.extend(page.keys);
        let Some(next) = page.cursor else { break };
        // What the cursor stands on goes; what comes is before it.
        bucket.delete(next.clone()).await.unwrap();
        bucket.set("00000-new".into(), vec![]).await.unwrap();
        cursor = Some(next);
    }
    assert_eq!(seen, (0..all).map(key).collect::<Vec<_>>());
    assert_eq!(bucket.list(Some("no key at all".into())).await.unwrap(), Page::default());
    assert!(bucket.list(Some("x".repeat(MAX_KEY_BYTES + 1))).await.is_err());
}

/// Each on its own: no update is lost, by increments as well as by compare-and-swap.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_lose_nothing() {
    const TASKS: i64 = 8;
    const EACH: i64 = 25;
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), false), "b").await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let bucket = bucket.clone();
        tasks.spawn(async move {
            for _ in 0..EACH {
                bucket.increment("sum".into(), 1).await.unwrap();
                let mut cas = bucket.cas("swapped".into()).await.unwrap();
                loop {
                    let now =
                        words(cas.current().await.unwrap()).map_or(0, |text| text.parse::<i64>().unwrap());
                    match cas.swap((now + 1).to_string().into_bytes()).await.unwrap() {
                        Swap::Done => break,
                        Swap::Changed(next) => cas = next,
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    for key in ["sum", "swapped"] {
        let sum = words(bucket.get(key.into()).await.unwrap());
        assert_eq!(sum, Some((TASKS * EACH).to_string()), "{key}");
    }
}

/// A value that was there before and is there again is another one.
#[tokio::test]
async fn a_swap_sees_changes_there_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), false), "b").await.unwrap();
    bucket.set("k".into(), b"a".into()).await.unwrap();
    let cas = bucket.cas("k".into()).await.unwrap();
    bucket.delete("k".into()).await.unwrap();
    bucket.set("k".into(), b"a".into()).await.unwrap();
    assert!(matches!(cas.swap(b"b".into()).await.unwrap(), Swap::Changed(_)));
    assert_eq!(words(bucket.get("k".into()).await.unwrap()).as_deref(), Some("a"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_nothing_of_it_happens() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), false), "b").await.unwrap();
    let (long, large) = ("k".repeat(MAX_KEY_BYTES + 1), vec![0; MAX_VALUE_BYTES + 1]);
    assert!(bucket.get(long.clone()).await.is_err());
    assert!(bucket.set(long.clone(), vec![]).await.is_err());
    assert!(bucket.increment(long.clone(), 1).await.is_err());
    assert!(bucket.cas(long.clone()).await.is_err());
    assert!(bucket.delete_many(vec!["a".into(), long.clone()]).await.is_err());
    assert!(bucket.set("k".into(), large.clone()).await.is_err());
    assert!(bucket.cas("k".into()).await.unwrap().swap(large.clone()).await.is_err());
    assert!(bucket.set_many(vec![("a".into(), vec![]), ("k".into(), large)]).await.is_err());
    let many: Vec<String> = (0..=MAX_BATCH_KEYS).map(|number| number.to_string()).collect();
    assert!(bucket.get_many(many.clone()).await.is_err());
    assert!(bucket.delete_many(many.clone()).await.is_err());
    assert!(bucket.set_many(many.into_iter().map(|key| (key, vec![])).collect()).await.is_err());
    assert_eq!(bucket.list(None).await.unwrap(), Page::default());

    // As large as they may be, and then too many of them to be read at once.
    for number in 0..=MAX_BATCH_BYTES / MAX_VALUE_BYTES {
        bucket.set(number.to_string(), vec![7; MAX_VALUE_BYTES]).await.unwrap();
    }
    let keys = bucket.list(None).await.unwrap().keys;
    let error = bucket.get_many(keys).await.unwrap_err().to_string();
    assert!(error.starts_with("bytes of a batch"), "{error}");
}

#[tokio::test]
async fn numbers_that_are_none_stay() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), false), "b").await.unwrap();
    bucket.set("text".into(), b"many".into()).await.unwrap();
    bucket.set("most".into(), i64::MAX.to_string().into()).await.unwrap();
    assert!(matches!(bucket.increment("text".into(), 1).await, Err(Error::NoNumber { .. })));
    assert!(matches!(bucket.increment("most".into(), 1).await, Err(Error::Overflow { .. })));
    assert_eq!(bucket.increment("most".into(), -1).await.unwrap(), i64::MAX - 1);
    assert_eq!(bucket.increment("fresh".into(), -2).await.unwrap(), -2);
}

#[tokio::test]
async fn a_durable_store_is_there_when_opened_anew_and_in_use_until_then() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), true), "b").await.unwrap();
    bucket.set("k".into(), b"v".into()).await.unwrap();
    let error = open(volume(directory.path(), true), "b").await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(".peapod/keyvalue.redb of volume \"data\"") && text.contains("another pod"),
        "{text}"
    );
    drop(bucket);
    let bucket = open(volume(directory.path(), true), "b").await.unwrap();
    assert_eq!(words(bucket.get("k".into()).await.unwrap()).as_deref(), Some("v"));
}

/// What a container can put where the file belongs: none of it is followed, waited for or written over.
#[tokio::test]
async fn hostile_files_are_left_as_they_are() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "").unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let nonsense = "no database at all, but as long as one may begin ".repeat(200);
    let cases: [(&str, Make); 6] = [
        ("text", &|file| fs::write(file, "text").unwrap()),
        ("long text", &|file| fs::write(file, &nonsense).unwrap()),
        ("zeros", &|file| fs::write(file, vec![0; 1 << 16]).unwrap()),
        ("link", &|file| symlink(&secret, file).unwrap()),
        ("pipe", &|file| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("directory", &|file| fs::create_dir(file).unwrap()),
    ];
    for (what, make) in cases {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(".peapod")).unwrap();
        let file = directory.path().join(".peapod/keyvalue.redb");
        make(&file);
        let before = file.is_file().then(|| fs::read(&file).unwrap());
        let error = open(volume(directory.path(), false), "b").await.expect_err(what);
        assert!(matches!(error, Error::Damaged { .. } | Error::Io { .. }), "{what}: {error}");
        assert_eq!(file.is_file().then(|| fs::read(&file).unwrap()), before, "{what}");
    }
    let directory = tempfile::tempdir().unwrap();
    symlink(outside.path(), directory.path().join(".peapod")).unwrap();
    assert!(open(volume(directory.path(), false), "b").await.is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(&secret).unwrap().len(), 0);
}

/// A file that changes under the store gives errors, and works again when it is repaired.
#[tokio::test]
async fn a_file_that_is_cut_off_gives_errors() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = open(volume(directory.path(), false), "b").await.unwrap();
    for number in 0..64 {
        bucket.set(number.to_string(), vec![7; 1 << 17]).await.unwrap();
    }
    let file = directory.path().join(".peapod/keyvalue.redb");
    fs::File::options().write(true).open(&file).unwrap().set_len(5000).unwrap();
    let mut failed = 0;
    for number in 0..64 {
        failed += usize::from(bucket.get(number.to_string()).await.is_err());
    }
    assert!(failed > 0);
    fs::remove_file(&file).unwrap();
    // Whoever had the old one open has closed it.
    bucket.set("k".into(), b"v".into()).await.unwrap();
    assert_eq!(words(bucket.get("k".into()).await.unwrap()).as_deref(), Some("v"));
}

#[tokio::test]
async fn nothing_is_made_before_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own");
    let pod = crate::testing::spec::pod([]);
    let volumes = Volumes::prepare(&pod, directory.path(), &Default::default()).unwrap();
    let key_value = KeyValue::new(&pod, &volumes, own.clone()).unwrap();
    assert!(matches!(key_value.open("not a name").await, Err(Error::NoSuchStore)));
    assert!(!own.exists());
    key_value.open("default").await.unwrap().set("k".into(), b"v".into()).await.unwrap();
    let other = key_value.open("other").await.unwrap();
    assert_eq!(other.get("k".into()).await.unwrap(), None);
    assert!(own.join("keyvalue.redb").exists());
    assert_eq!(key_value.own_directory(), Some(own.as_path()));
}
