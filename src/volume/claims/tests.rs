use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::inventory::{KnownVolume, Phase};
use super::*;
use crate::spec::network_policy::{Condition, LabelSelector, Requirement};
use crate::spec::{PersistentVolume, ReclaimPolicy, Volume};
use crate::testing::spec as testing;

const GI: u64 = 1 << 30;

fn birth(uid: &str) -> Birth {
    Birth { uid: uid.to_owned(), at: Timestamp::UNIX_EPOCH }
}

fn key(name: &str) -> ClaimKey {
    ("default".to_owned(), name.to_owned())
}

fn claim(bytes: u64, class: Option<&str>) -> Claim {
    Claim {
        access_modes: vec![AccessMode::ReadWriteOnce],
        storage_bytes: bytes,
        storage_class: class.map(str::to_owned),
        ..Claim::default()
    }
}

fn volume(bytes: u64, class: &str) -> PersistentVolume {
    PersistentVolume {
        labels: BTreeMap::new(),
        path: "/srv".into(),
        kind: PersistentVolumeKind::HostPath,
        capacity_bytes: bytes,
        access_modes: vec![AccessMode::ReadWriteOnce],
        storage_class: class.to_owned(),
        reclaim_policy: ReclaimPolicy::Retain,
        claim: None,
    }
}

fn labelled(volume: PersistentVolume, key: &str, value: &str) -> PersistentVolume {
    PersistentVolume { labels: BTreeMap::from([(key.to_owned(), value.to_owned())]), ..volume }
}

fn selector(key: &str, value: &str) -> Option<LabelSelector> {
    let condition = Condition::In([value.to_owned()].into());
    Some(LabelSelector { requirements: vec![Requirement { key: key.to_owned(), condition }] })
}

fn inventory(volumes: &[(&str, PersistentVolume)]) -> Inventory {
    let mut inventory = Inventory::default();
    for (name, volume) in volumes {
        inventory.apply_volume(name, volume, birth(name)).unwrap();
    }
    inventory
}

/// Binds a claim named `c` and says to what.
fn bound(inventory: &mut Inventory, claim: &Claim) -> Result<String, String> {
    let applied = inventory.apply_claim(&key("c"), claim, None, birth("1"));
    applied.map_err(|error| error.to_string())?;
    Ok(inventory.claims[&key("c")].volume_name())
}

#[test]
fn the_smallest_volume_that_fits_is_taken() {
    let many = PersistentVolume {
        access_modes: vec![AccessMode::ReadWriteOnce, AccessMode::ReadWriteMany],
        ..volume(GI, "fast")
    };
    let volumes = [
        ("big", volume(9 * GI, "fast")),
        ("fits", volume(3 * GI, "fast")),
        ("tiny", volume(GI, "fast")),
        ("other", volume(2 * GI, "slow")),
        ("many", PersistentVolume { capacity_bytes: 2 * GI, ..many }),
    ];
    let mut all = inventory(&volumes);
    assert_eq!(bound(&mut all, &claim(2 * GI, Some("fast"))), Ok("fits".to_owned()));
    let both = vec![AccessMode::ReadWriteMany, AccessMode::ReadWriteOnce];
    let wanted = Claim { access_modes: both, ..claim(GI, Some("fast")) };
    assert_eq!(bound(&mut inventory(&volumes), &wanted), Ok("many".to_owned()));
    let error = bound(&mut inventory(&volumes), &claim(10 * GI, Some("fast"))).unwrap_err();
    assert!(error.contains("storageclass.storage.k8s.io \"fast\" not found"), "{error}");
}

#[test]
fn a_claim_that_says_nothing_has_the_default_class_and_one_of_no_class_a_volume_without_one() {
    let volumes = [("plain", volume(GI, "")), ("classed", volume(GI, CLASS))];
    assert_eq!(bound(&mut inventory(&volumes), &claim(GI, None)), Ok("classed".to_owned()));
    assert_eq!(bound(&mut inventory(&volumes), &claim(GI, Some(""))), Ok("plain".to_owned()));
    assert_eq!(bound(&mut inventory(&volumes[..1]), &claim(GI, None)), Ok("pvc-1".to_owned()));
    let named = Claim { volume_name: Some("plain".to_owned()), ..claim(GI, None) };
    let error = bound(&mut inventory(&volumes), &named).unwrap_err();
    assert!(error.contains("storageClassName does not match: the claim has the default class"), "{error}");
    let mut none = Inventory::default();
    assert_eq!(bound(&mut none, &claim(GI, None)), Ok("pvc-1".to_owned()));
    assert_eq!(none.claims[&key("c")].storage_class, CLASS);
    let error = bound(&mut Inventory::default(), &claim(GI, Some(""))).unwrap_err();
    assert!(error.contains("no storage class is set"), "{error}");
}

#[test]
fn a_selector_chooses_by_labels_and_is_not_provisioned_for() {
    let volumes = [
        ("a", labelled(volume(GI, "x"), "disk", "ssd")),
        ("b", labelled(volume(9 * GI, "x"), "disk", "hdd")),
    ];
    let wanted = Claim { selector: selector("disk", "hdd"), ..claim(GI, Some("x")) };
    assert_eq!(bound(&mut inventory(&volumes), &wanted), Ok("b".to_owned()));
    let wanted = Claim { selector: selector("disk", "tape"), ..claim(GI, None) };
    let error = bound(&mut inventory(&volumes), &wanted).unwrap_err();
    assert!(error.contains("selector is not supported for dynamic provisioning"), "{error}");
}

#[test]
fn a_reserved_volume_is_for_its_claim_only() {
    let reserved = |name: &str| PersistentVolume { claim: Some(key(name)), ..volume(GI, "x") };
    let volumes = [("mine", reserved("c")), ("yours", reserved("d"))];
    // Whatever their classes are.
    assert_eq!(bound(&mut inventory(&volumes), &claim(GI, None)), Ok("mine".to_owned()));
    assert_eq!(bound(&mut inventory(&volumes[1..]), &claim(GI, None)), Ok("pvc-1".to_owned()));
    let named = |name: &str| Claim { volume_name: Some(name.to_owned()), ..claim(GI, None) };
    assert_eq!(bound(&mut inventory(&volumes), &named("mine")), Ok("mine".to_owned()));
    let error = bound(&mut inventory(&volumes), &named("yours")).unwrap_err();
    assert!(error.contains("\"yours\" already bound to a different claim"), "{error}");
}

#[test]
fn a_volume_that_is_named_must_fit() {
    let volumes = [("v", volume(GI, "x"))];
    let says = |wanted: Claim, name: &str| {
        let wanted = Claim { volume_name: Some(name.to_owned()), ..wanted };
        bound(&mut inventory(&volumes), &wanted)
    };
    assert_eq!(says(claim(GI, Some("x")), "v"), Ok("v".to_owned()));
    let many = Claim { access_modes: vec![AccessMode::ReadWriteMany], ..claim(GI, Some("x")) };
    for (wanted, name, part) in [
        (claim(2 * GI, Some("x")), "v", "requested PV is too small"),
        (claim(GI, None), "v", "storageClassName does not match"),
        (many, "v", "incompatible accessMode"),
        (claim(GI, Some("x")), "w", "volume \"w\" not found"),
    ] {
        let error = says(wanted, name).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_claim_stays_as_it_is_but_grows() {
    let mut all = inventory(&[("v", volume(9 * GI, "x"))]);
    bound(&mut all, &claim(2 * GI, None)).unwrap();
    for wanted in [claim(2 * GI, None), claim(2 * GI, Some(CLASS)), claim(3 * GI, None)] {
        assert_eq!(bound(&mut all, &wanted), Ok("pvc-1".to_owned()));
    }
    assert_eq!(all.claims[&key("c")].request_bytes, 3 * GI);
    let many = Claim { access_modes: vec![AccessMode::ReadWriteMany], ..claim(3 * GI, None) };
    let named = Claim { volume_name: Some("v".to_owned()), ..claim(3 * GI, None) };
    let selected = Claim { selector: selector("a", "b"), ..claim(3 * GI, None) };
    let before = all.clone();
    for (wanted, part) in [
        (claim(2 * GI, None), "field can not be less than status.capacity, 3Gi"),
        (claim(3 * GI, Some("x")), "spec.storageClassName: forbidden: spec is immutable"),
        (many, "spec.accessModes: forbidden: spec is immutable"),
        (named, "spec.volumeName: forbidden: spec is immutable"),
        (selected, "spec.selector: forbidden: spec is immutable"),
    ] {
        let error = bound(&mut all, &wanted).unwrap_err();
        assert!(error.contains(part), "{error}");
        assert_eq!(all, before);
    }
    let fixed = key("fixed");
    all.apply_claim(&fixed, &claim(GI, Some("x")), None, birth("2")).unwrap();
    let error = all.apply_claim(&fixed, &claim(2 * GI, Some("x")), None, birth("3")).unwrap_err().to_string();
    assert!(error.contains("only dynamically provisioned pvc can be resized"), "{error}");
}

#[test]
fn a_volume_is_released_and_free_again_once_it_was_deleted() {
    let mut all = inventory(&[("v", volume(GI, "x"))]);
    let wanted = claim(GI, Some("x"));
    bound(&mut all, &wanted).unwrap();
    assert_eq!(all.phase(&all.volumes["v"]), Phase::Bound);
    assert!(all.delete_volume("v").unwrap_err().to_string().contains("is bound to claim default/c"));
    all.delete_claim(&key("c")).unwrap();
    assert_eq!(all.phase(&all.volumes["v"]), Phase::Released);
    assert!(bound(&mut all, &wanted).is_err(), "not even for a claim of that name");
    // Its document again changes nothing about that.
    all.apply_volume("v", &volume(GI, "x"), birth("new")).unwrap();
    assert!(bound(&mut all, &wanted).is_err());
    all.delete_volume("v").unwrap();
    assert!(all.delete_volume("v").unwrap_err().to_string().contains("persistentvolumes \"v\" not found"));
    all.apply_volume("v", &volume(GI, "x"), birth("new")).unwrap();
    assert_eq!(bound(&mut all, &wanted), Ok("v".to_owned()));
    let moved = PersistentVolume { path: "/other".into(), ..volume(GI, "x") };
    let error = all.apply_volume("v", &moved, birth("new")).unwrap_err().to_string();
    assert!(error.contains("is immutable after creation; it is at /srv"), "{error}");
}

#[test]
fn a_volume_whose_data_should_go_with_its_claim_fails_or_is_reclaimed() {
    let deleted = |path: &str, kind| {
        let reclaim_policy = ReclaimPolicy::Delete;
        let volume = PersistentVolume { path: path.into(), kind, reclaim_policy, ..volume(GI, "x") };
        let mut all = inventory(&[("v", volume)]);
        bound(&mut all, &claim(GI, Some("x"))).unwrap();
        assert_eq!((all.phase(&all.volumes["v"]), all.reclaimable().count()), (Phase::Bound, 0));
        all.delete_claim(&key("c")).unwrap();
        assert_eq!(all.phase(&all.volumes["v"]), Phase::Failed);
        all.reclaimable().count() == 1
    };
    let (host, local) = (PersistentVolumeKind::HostPath, PersistentVolumeKind::Local);
    for (path, kind, expected) in [
        ("/tmp/a", host, true),
        ("/tmp/a/b", PersistentVolumeKind::HostPathOrCreate, true),
        ("/tmp", host, false),
        ("/tmpfs/a", host, false),
        ("/srv/tmp/a", host, false),
        ("/tmp/a", local, false),
    ] {
        assert_eq!(deleted(path, kind), expected, "{path} {kind:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Volume(u8, PersistentVolume),
    Claim(u8, Claim),
    DeleteClaim(u8),
    DeleteVolume(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let modes = || prop::sample::subsequence(AccessMode::ALL.map(|(_, mode)| mode).to_vec(), 1..3);
    let class = || prop::sample::select(vec!["", "x", CLASS]);
    let id = || 0..6u8;
    let volume = (1..5u64, modes(), class(), prop::option::of(id()), any::<bool>()).prop_map(
        |(bytes, access_modes, class, reserved, is_ssd)| {
            let claim = reserved.map(|id| key(&id.to_string()));
            let volume = PersistentVolume { access_modes, claim, ..volume(bytes, class) };
            if is_ssd { labelled(volume, "disk", "ssd") } else { volume }
        },
    );
    let claim = (1..5u64, modes(), prop::option::of(class()), prop::option::of(id()), any::<bool>())
        .prop_map(|(bytes, access_modes, class, named, selects)| Claim {
            access_modes,
            volume_name: named.map(|id| id.to_string()),
            selector: selects.then(|| selector("disk", "ssd")).flatten(),
            ..claim(bytes, class)
        });
    let step = prop_oneof![
        3 => (id(), volume).prop_map(|(id, volume)| Step::Volume(id, volume)),
        6 => (id(), claim).prop_map(|(id, claim)| Step::Claim(id, claim)),
        1 => id().prop_map(Step::DeleteClaim),
        1 => id().prop_map(Step::DeleteVolume),
    ];
    prop::collection::vec(step, 1..40)
}

/// Whether a free volume that nobody has reserved fits a claim of `class`.
fn fits(volume: &KnownVolume, claim: &Claim, class: &str) -> bool {
    volume.claim.is_none()
        && volume.spec.claim.is_none()
        && volume.spec.capacity_bytes >= claim.storage_bytes
        && volume.spec.storage_class == class
        && claim.access_modes.iter().all(|mode| volume.spec.access_modes.contains(mode))
        && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.spec.labels))
}

proptest! {
    #[test]
    fn no_volume_has_two_claims_and_every_claim_what_it_asked_for(steps in steps()) {
        let mut all = Inventory::default();
        for (number, step) in steps.into_iter().enumerate() {
            let before = all.clone();
            let number = birth(&number.to_string());
            match step {
                // What a volume is changes under its claim where its document does; not here.
                Step::Volume(id, volume) if !all.volumes.contains_key(&id.to_string()) => {
                    all.apply_volume(&id.to_string(), &volume, number).unwrap();
                }
                Step::Volume(..) => {}
                Step::DeleteClaim(id) => drop(all.delete_claim(&key(&id.to_string()))),
                Step::DeleteVolume(id) => drop(all.delete_volume(&id.to_string())),
                Step::Claim(id, wanted) => {
                    let own = key(&id.to_string());
                    if all.apply_claim(&own, &wanted, None, number).is_err() {
                        prop_assert_eq!(&all, &before);
                        continue;
                    }
                    if before.claims.contains_key(&own) {
                        continue;
                    }
                    let bound = &all.claims[&own];
                    let Some(name) = &bound.volume else {
                        let class = wanted.storage_class.as_deref();
                        prop_assert!(class.is_none_or(|class| class == CLASS) && wanted.selector.is_none());
                        prop_assert!(!before.volumes.values().any(|volume| fits(volume, &wanted, CLASS)));
                        continue;
                    };
                    prop_assert_eq!(&bound.storage_class, wanted.storage_class.as_deref().unwrap_or(CLASS));
                    let taken = &before.volumes[name];
                    prop_assert_eq!(before.phase(taken), Phase::Available);
                    match &taken.spec.claim {
                        Some(reserved) => prop_assert_eq!(reserved, &own),
                        None => {
                            let class = &taken.spec.storage_class;
                            let fitting = before.volumes.values().filter(|volume| fits(volume, &wanted, class));
                            let smallest = |modes: usize, volume: &KnownVolume| {
                                volume.spec.access_modes.len() != modes
                                    || volume.spec.capacity_bytes >= taken.spec.capacity_bytes
                            };
                            let modes = taken.spec.access_modes.len();
                            let mut fitting = fitting.peekable();
                            if wanted.volume_name.is_none() {
                                prop_assert!(fits(taken, &wanted, class) && fitting.peek().is_some());
                                prop_assert!(fitting.all(|volume| smallest(modes, volume)));
                            }
                        }
                    }
                }
            }
            let mut volumes: Vec<_> = all.claims.values().filter_map(|claim| claim.volume.clone()).collect();
            let count = volumes.len();
            volumes.sort();
            volumes.dedup();
            prop_assert_eq!(volumes.len(), count, "a volume has two claims");
            for volume in &volumes {
                prop_assert_eq!(all.phase(&all.volumes[volume]), Phase::Bound);
            }
        }
    }
}

fn pod(uid: &str, volumes: &[(&str, VolumeSource)], documents: &[(&str, Claim)]) -> Pod {
    let volume =
        |(name, source): &(&str, VolumeSource)| Volume { name: (*name).into(), source: source.clone() };
    let mut pod = Pod {
        uid: uid.to_owned(),
        name: format!("pod-{uid}"),
        volumes: volumes.iter().map(volume).collect(),
        ..testing::pod([])
    };
    for (name, document) in documents {
        pod.storage.claims.insert((*name).to_owned(), document.clone());
    }
    pod
}

fn of_claim(name: &str) -> VolumeSource {
    VolumeSource::Claim { name: name.to_owned(), read_only: false }
}

fn place() -> (tempfile::TempDir, Paths) {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::resolve(0, |_| Some(directory.path().into()));
    (directory, paths)
}

fn hold(paths: &Paths, pod: &Pod) -> Result<Held, String> {
    bind(paths, pod, Timestamp::UNIX_EPOCH)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directory_is_made_once_and_kept() {
    let (_directory, paths) = place();
    let document = ("data", claim(GI, None));
    let held = hold(&paths, &pod("1", &[("v", of_claim("data"))], &[document])).unwrap();
    let data = held.bound["v"].path.clone();
    assert_eq!((mode(&data), mode(data.parent().unwrap()), mode(&paths.claims())), (0o777, 0o700, 0o700));
    fs::write(data.join("file"), "kept").unwrap();
    drop(held);
    // Without a document, and for two volumes.
    let again = hold(&paths, &pod("2", &[("a", of_claim("data")), ("b", of_claim("data"))], &[])).unwrap();
    assert_eq!((&again.bound["a"].path, &again.bound["b"].path), (&data, &data));
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");
    assert!(delete_claim(&paths, &key("data")).unwrap_err().to_string().contains("pod default/pod-2"));
    drop(again);
    delete_claim(&paths, &key("data")).unwrap();
    assert!(!data.exists());
    assert_eq!(fs::read_dir(paths.claims().join(".trash")).unwrap().count(), 0);
    let gone = hold(&paths, &pod("3", &[("v", of_claim("data"))], &[])).unwrap_err();
    let expected =
        "spec.volumes[0].persistentVolumeClaim.claimName: persistentvolumeclaim \"data\" not found: add";
    assert!(gone.starts_with(expected), "{gone}");
}

#[test]
fn what_is_missing_comes_with_what_there_is_and_all_at_once() {
    let (_directory, paths) = place();
    drop(hold(&paths, &pod("1", &[("v", of_claim("data"))], &[("data", claim(GI, None))])).unwrap());
    let wanted = pod(
        "2",
        &[("a", of_claim("dtaa")), ("b", of_claim("other"))],
        &[("new", claim(GI, None)), ("other", claim(GI, Some("nope")))],
    );
    let errors = hold(&paths, &wanted).unwrap_err();
    assert!(errors.contains("did you mean data?") && errors.contains("\"nope\" not found"), "{errors}");
    let checked = check(&paths, &wanted, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(checked.len(), 2);
    assert!(checked.iter().all(ClaimError::is_of_manifest));
}

#[test]
fn a_volume_that_a_claim_names_is_not_anothers() {
    let (directory, paths) = place();
    let ephemeral = VolumeSource::Ephemeral { claim: claim(GI, None) };
    let named = Claim { volume_name: Some("v".to_owned()), ..claim(GI, None) };
    let volumes = [("a", ephemeral), ("b", of_claim("any")), ("c", of_claim("named"))];
    let mut pod = pod("1", &volumes, &[("any", claim(GI, None)), ("named", named)]);
    for (kind, is_the_hosts) in [(PersistentVolumeKind::HostPath, true), (PersistentVolumeKind::Local, false)]
    {
        let path = directory.path().to_owned();
        pod.storage.volumes.insert("v".to_owned(), PersistentVolume { path, kind, ..volume(GI, CLASS) });
        let held = hold(&paths, &pod).unwrap();
        assert_eq!(held.bound["c"].path, directory.path());
        // Also when its document is not there any more.
        pod.storage.volumes.clear();
        drop(held);
        assert_eq!(hold(&paths, &pod).unwrap().bound["c"].is_the_hosts, is_the_hosts);
        assert!(!hold(&paths, &pod).unwrap().bound["b"].is_the_hosts);
        delete_claim(&paths, &key("named")).unwrap();
        delete_volume(&paths, "v").unwrap();
    }
}

#[test]
fn a_pod_without_claims_touches_nothing() {
    let (directory, paths) = place();
    drop(hold(&paths, &pod("1", &[], &[("unused", claim(GI, None))])).unwrap());
    sweep(&paths).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn one_pod_at_a_time_where_the_claim_says_so() {
    let (_directory, paths) = place();
    let alone = Claim { access_modes: vec![AccessMode::ReadWriteOncePod], ..claim(GI, None) };
    let first = hold(&paths, &pod("1", &[("v", of_claim("data"))], &[("data", alone)])).unwrap();
    let second = pod("2", &[("v", of_claim("data"))], &[]);
    let error = hold(&paths, &second).unwrap_err();
    assert!(error.contains("ReadWriteOncePod access mode: pod default/pod-1"), "{error}");
    let same = hold(&paths, &pod("1", &[("v", of_claim("data"))], &[])).unwrap_err();
    assert!(same.contains("already running"), "{same}");
    drop(first);
    drop(hold(&paths, &second).unwrap());
}

#[test]
fn a_claim_of_the_pods_own_goes_with_it() {
    let (_directory, paths) = place();
    let wanted = pod("1", &[("v", VolumeSource::Ephemeral { claim: claim(GI, None) })], &[]);
    let held = hold(&paths, &wanted).unwrap();
    let data = held.bound["v"].path.clone();
    assert!(data.ends_with("default/pod-1-v/data") && data.exists());
    sweep(&paths).unwrap();
    assert!(data.exists(), "its pod lives");
    drop(held);
    assert!(!data.exists());
    // Of a supervisor that was killed: nobody has the lock.
    let mut killed = hold(&paths, &wanted).unwrap();
    killed.own = None;
    drop(killed);
    assert!(data.exists());
    sweep(&paths).unwrap();
    assert!(!data.exists());
    let names = [("v", of_claim("pod-1-v"))];
    let theirs = hold(&paths, &pod("2", &names, &[("pod-1-v", claim(GI, None))])).unwrap();
    let error = hold(&paths, &wanted).unwrap_err();
    assert!(error.contains("was not created for pod default/pod-1 (pod is not owner)"), "{error}");
    drop(theirs);
    let both = [("v", VolumeSource::Ephemeral { claim: claim(GI, None) }), ("w", of_claim("pod-3-v"))];
    assert!(hold(&paths, &pod("3", &both, &[])).unwrap_err().contains("pod is not owner"));
}

#[test]
fn volumes_of_the_host_are_where_they_are() {
    let (directory, paths) = place();
    let at =
        |name: &str, kind| PersistentVolume { path: directory.path().join(name), kind, ..volume(GI, "x") };
    let with = |uid: &str, name: &str, volume: PersistentVolume| {
        let named = Claim { volume_name: Some(name.to_owned()), ..claim(GI, Some("x")) };
        let mut pod = pod(uid, &[("v", of_claim(name))], &[(name, named)]);
        pod.storage.volumes.insert(name.to_owned(), volume);
        hold(&paths, &pod)
    };
    let made = with("1", "made", at("made", PersistentVolumeKind::HostPathOrCreate)).unwrap();
    assert_eq!(made.bound["v"].path, directory.path().join("made"));
    fs::write(made.bound["v"].path.join("file"), "kept").unwrap();
    for kind in [PersistentVolumeKind::HostPath, PersistentVolumeKind::Local] {
        let error = with("2", "missing", at("missing", kind)).unwrap_err();
        assert!(error.contains("missing does not exist"), "{error}");
    }
    fs::write(directory.path().join("a-file"), "").unwrap();
    let error = with("2", "a-file", at("a-file", PersistentVolumeKind::Local)).unwrap_err();
    assert!(error.contains("a-file is not a directory"), "{error}");
    let registered = Registry::open(&paths).unwrap();
    assert_eq!(registered.inventory().volumes.len(), 1, "what failed left nothing");
    drop(registered);
    drop(made);
    delete_claim(&paths, &key("made")).unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("made/file")).unwrap(), "kept");
    let registry = Registry::open(&paths).unwrap();
    let inventory = registry.inventory();
    assert_eq!(inventory.phase(&inventory.volumes["made"]), Phase::Released);
}

#[test]
fn records_say_all_that_is_known() {
    let (_directory, paths) = place();
    let mut all = inventory(&[
        ("a", labelled(volume(GI, "x"), "disk", "ssd")),
        (
            "b",
            PersistentVolume { claim: Some(key("r")), kind: PersistentVolumeKind::Local, ..volume(GI, "") },
        ),
    ]);
    let modes = AccessMode::ALL.map(|(_, mode)| mode).to_vec();
    let wanted = Claim {
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        selector: selector("disk", "ssd"),
        ..claim(GI, Some("x"))
    };
    all.apply_claim(&key("c"), &wanted, None, birth("1")).unwrap();
    let wanted = Claim { access_modes: modes, ..claim(GI, None) };
    all.apply_claim(&key("d"), &wanted, Some("owner"), birth("2")).unwrap();
    Registry::open(&paths).unwrap().commit(all.clone()).unwrap();
    assert_eq!(*Registry::open(&paths).unwrap().inventory(), all);
}

#[test]
fn what_a_crash_leaves_is_no_claim_and_binds_none() {
    let (_directory, paths) = place();
    let document = || [("data", claim(GI, None))];
    let wanted = pod("1", &[("v", of_claim("data"))], &document());
    // The directory was made, and its record not.
    let half = paths.claims().join("default/data");
    fs::create_dir_all(half.join("data")).unwrap();
    fs::write(half.join("data/old"), "").unwrap();
    fs::write(half.join("claim.new"), "{").unwrap();
    let held = hold(&paths, &wanted).unwrap();
    assert_eq!(fs::read_dir(&held.bound["v"].path).unwrap().count(), 0, "somebody else's data");
    drop(held);
    // The claim was written, and its volume's record not.
    let mut all = inventory(&[("v", volume(GI, "x"))]);
    let unbound = all.volumes["v"].clone();
    all.apply_claim(&key("c"), &claim(GI, Some("x")), None, birth("1")).unwrap();
    all.volumes.insert("v".to_owned(), unbound);
    Registry::open(&paths).unwrap().commit(all).unwrap();
    let healed = Registry::open(&paths).unwrap().inventory().clone();
    assert_eq!(healed.phase(&healed.volumes["v"]), Phase::Bound);
    // A record that makes no sense is not taken for one that is missing: there may be data.
    fs::write(paths.claims().join("default/c/claim.json"), "{").unwrap();
    let error = hold(&paths, &wanted).unwrap_err();
    assert!(error.contains("claim.json makes no sense"), "{error}");
}

#[test]
fn of_pods_that_begin_at_once_one_makes_the_directory() {
    let (_directory, paths) = place();
    let paths = &paths;
    let data: Vec<_> = std::thread::scope(|scope| {
        let begin = |number: usize| {
            move || {
                let uid = number.to_string();
                let wanted = pod(&uid, &[("v", of_claim("data"))], &[("data", claim(GI, None))]);
                let held = hold(paths, &wanted).unwrap();
                fs::write(held.bound["v"].path.join(&uid), "").unwrap();
                held
            }
        };
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(begin(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(fs::read_dir(&data[0].bound["v"].path).unwrap().count(), 8, "all in one");
    let registry = Registry::open(paths).unwrap();
    assert_eq!(registry.inventory().claims.len(), 1);
    assert_eq!(registry.users(&key("data")).unwrap().len(), 8);
}
