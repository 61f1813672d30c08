use std::path::Path;
use std::time::Duration;

use kiln_image::{DiffId, Digest};
use kiln_solver::key::{Key, TreeDigest};
use kiln_solver::plan::Origin;

use super::*;
use crate::layers::LayerId;
use crate::store::Store;
use crate::{MountUse, NewRecord, Packed};

/// A layer of one file of `bytes` bytes, made by a step that took so long, so many hours ago.
fn layer(store: &Store, name: &str, bytes: u64, took: u64, hours: u64) -> LayerId {
    let scratch = store.scratch().unwrap();
    let dir = scratch.path().join("diff");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    let id = store.adopt_layer(&dir).unwrap();
    let packed = Packed {
        diff_id: DiffId::from(Digest::of(name.as_bytes())),
        tree: TreeDigest::from(blake3::hash(name.as_bytes())),
        tar_size: bytes,
        bytes,
        epoch: None,
    };
    let ran_at = SystemTime::now() - Duration::from_secs(hours * 3600);
    store.record_layer(&id, &packed, ran_at).unwrap();
    let record = NewRecord {
        key: Key(*blake3::hash(name.as_bytes()).as_bytes()),
        layer: &id,
        ran_at,
        took: Duration::from_secs(took),
        name,
        origin: &Origin::default(),
        made: None,
        inputs: &[],
    };
    store.records().put_record(&record).unwrap();
    id
}

fn open(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

/// Names of the steps whose layers are there.
fn steps(store: &Store) -> Vec<String> {
    let items = store.maintenance().items().unwrap().into_iter();
    let mut names: Vec<String> = items
        .filter(|i| i.class == Class::Layers)
        .map(|i| i.title)
        .collect();
    names.sort();
    names
}

/// So many bytes beside what the store takes for itself.
fn cap(store: &Store, bytes: u64) -> Policy {
    Policy {
        max_size: Some(store.maintenance().own_bytes() + bytes),
        ..Policy::default()
    }
}

#[test]
fn what_is_worth_least_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    layer(&maker, "large and cheap", 400_000, 1, 1);
    layer(&maker, "large and dear", 400_000, 1000, 1);
    layer(&maker, "small and cheap", 1000, 1, 1);
    layer(&maker, "old", 400_000, 10, 5000);
    drop(maker);
    let store = open(dir.path());
    assert_eq!(store.maintenance().total().unwrap(), 1_201_000);
    assert_eq!(
        store
            .maintenance()
            .collect(&cap(&store, 1_400_000), true)
            .unwrap(),
        Removed::default()
    );
    let removed = store
        .maintenance()
        .collect(&cap(&store, 1_100_000), true)
        .unwrap();
    assert_eq!(removed.items[0].2, "old");
    store
        .maintenance()
        .collect(&cap(&store, 600_000), true)
        .unwrap();
    assert_eq!(steps(&store), ["large and dear", "small and cheap"]);
    assert_eq!(store.maintenance().total().unwrap(), 401_000);
    assert!(!store.path("trash").read_dir().unwrap().any(|_| true));
    assert_eq!(store.path("layers-v1").read_dir().unwrap().count(), 2);
}

/// An image needs each of its layers once, however often a step has made it again.
#[test]
fn an_image_holds_one_copy_of_a_layer() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    let of_image = layer(&maker, "of an image", 1000, 1, 1);
    let first = maker.layer(of_image.as_str()).unwrap().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}},"config":{{}}}}"#,
        first.diff_id
    );
    let config = maker.put_blob(config.as_bytes()).unwrap();
    maker
        .put_image(Some(&"held".parse().unwrap()), &config, None)
        .unwrap();
    drop(maker);
    let mut kept = Vec::new();
    for round in 0..3 {
        // Nothing is known of the steps any more, so they run again and give the same.
        let store = open(dir.path());
        let everything = Prune {
            all: true,
            ..Prune::default()
        };
        store.maintenance().prune(&everything).unwrap();
        drop(store);
        let maker = open(dir.path());
        let again = layer(&maker, "of an image", 1000, 1, 0);
        assert_ne!(again.as_str(), of_image.as_str(), "{round}");
        drop(maker);
        let store = open(dir.path());
        store.maintenance().prune(&Prune::default()).unwrap();
        assert_eq!(steps(&store), ["of an image"], "{round}");
        // It is the one that a record leads to.
        kept.push(store.layer_by_diff(&first.diff_id).unwrap().unwrap().id);
        assert_eq!(kept.last().unwrap().as_str(), again.as_str());
        assert!(store.path("layers-v1").join(again.as_str()).exists());
        assert_eq!(store.path("layers-v1").read_dir().unwrap().count(), 1);
    }
}

/// A process may still keep a store in order that somebody has removed to begin anew.
#[test]
fn a_store_that_was_removed_takes_nothing_from_the_one_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path());
    layer(&old, "old", 1000, 1, 1);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    let maker = open(dir.path());
    let id = layer(&maker, "new", 1000, 1, 1);
    let blob = maker.put_blob(b"new").unwrap();
    drop(maker);
    assert!(old.discard_unrecorded().is_err());
    assert!(old.maintenance().discard_unknown_blobs().is_err());
    assert!(old.maintenance().collect(&cap(&old, 0), true).is_err());
    let new = open(dir.path());
    assert!(new.path("layers-v1").join(id.as_str()).exists());
    assert_eq!(new.read_blob(&blob).unwrap(), b"new");
}

#[test]
fn leases_images_and_locks_hold_what_they_use() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    let used = layer(&maker, "used", 1000, 1, 1);
    let of_image = layer(&maker, "of an image", 1000, 1, 1);
    layer(&maker, "free", 1000, 1, 1);
    let diff = maker.layer(of_image.as_str()).unwrap().unwrap().diff_id;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}},"config":{{}}}}"#
    );
    let config = maker.put_blob(config.as_bytes()).unwrap();
    let name = "held".parse().unwrap();
    maker.put_image(Some(&name), &config, None).unwrap();
    maker.put_blob(b"free content").unwrap();
    let mut fill = |_: &kiln_sys::RootDir| Ok(());
    drop(
        maker
            .cache_mounts()
            .try_cache_mount(None, "free", MountUse::Locked, &mut fill)
            .unwrap(),
    );
    drop(maker);
    let stepper = open(dir.path());
    let mount = stepper
        .cache_mounts()
        .try_cache_mount(None, "used", MountUse::Shared, &mut fill)
        .unwrap()
        .unwrap();

    let user = open(dir.path());
    assert!(user.layer(used.as_str()).unwrap().is_some());
    let other = open(dir.path());
    let removed = other.maintenance().prune(&Prune::default()).unwrap();
    let mut titles: Vec<&str> = removed.items.iter().map(|i| i.2.as_str()).collect();
    titles.sort_unstable();
    assert_eq!(titles, ["", "free", "free"], "{removed:?}");
    assert!(mount.path.is_dir());
    assert_eq!(steps(&other), ["of an image", "used"]);
    assert!(other.read_blob(&config).is_ok());

    drop((mount, user, stepper));
    other.maintenance().prune(&Prune::default()).unwrap();
    let last = open(dir.path());
    assert_eq!(steps(&last), ["of an image"]);
    last.remove_image(&config).unwrap();
    last.maintenance().prune(&Prune::default()).unwrap();
    drop(other);
    drop(last);
    let last = open(dir.path());
    last.maintenance().prune(&Prune::default()).unwrap();
    assert_eq!(last.maintenance().items().unwrap().len(), 0);
    assert_eq!(last.maintenance().total().unwrap(), 0);
}

#[test]
fn filters_choose_by_class_age_and_room() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    for (name, hours) in [("new", 0), ("day", 30), ("week", 200)] {
        layer(&maker, name, 1000, 1, hours);
    }
    drop(maker);
    let store = open(dir.path());
    let nothing = Prune {
        classes: HashSet::from([Class::Mounts]),
        ..Prune::default()
    };
    assert_eq!(
        store.maintenance().prune(&nothing).unwrap(),
        Removed::default()
    );
    let hours = |h: u64| Some(Duration::from_secs(h * 3600));
    let old = Prune {
        unused_for: hours(100),
        ..Prune::default()
    };
    store.maintenance().prune(&old).unwrap();
    assert_eq!(steps(&store), ["day", "new"]);
    let room = Prune {
        keep: Some(1500),
        ..Prune::default()
    };
    store.maintenance().prune(&room).unwrap();
    assert_eq!(steps(&store), ["new"]);
    let age = Policy {
        max_age: hours(1),
        ..Policy::default()
    };
    store.maintenance().collect(&age, false).unwrap();
    assert_eq!(steps(&store), ["new"]);
}

#[test]
fn a_use_makes_young() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    let id = layer(&maker, "old", 1000, 1, 1000);
    layer(&maker, "older", 1000, 1, 1000);
    drop(maker);
    let user = open(dir.path());
    user.layer(id.as_str()).unwrap();
    user.maintenance().note_uses().unwrap();
    drop(user);
    let store = open(dir.path());
    let old = Prune {
        unused_for: Some(Duration::from_secs(3600)),
        ..Prune::default()
    };
    store.maintenance().prune(&old).unwrap();
    assert_eq!(steps(&store), ["old"]);
}

#[test]
fn what_was_just_noted_is_not_written_again_and_sessions_are_no_uses() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    let id = layer(&maker, "used", 1000, 1, 1);
    drop(maker);
    // Its counter changes with each write of another connection.
    let watch = open(dir.path());
    let version = || {
        let counter = watch
            .db()
            .query_row("PRAGMA data_version", [], |row| row.get(0));
        counter.unwrap()
    };
    let build = || {
        let store = open(dir.path());
        store.layer(id.as_str()).unwrap();
        store.logs().unwrap();
        store.maintenance().note_uses().unwrap();
        store.maintenance().note_build(SystemTime::now()).unwrap();
    };
    build();
    let (before, noted): (i64, i64) = (version(), count_of_uses(&watch));
    assert_eq!(noted, 1);
    build();
    assert_eq!((version(), count_of_uses(&watch)), (before, 1));
}

fn count_of_uses(store: &Store) -> i64 {
    let count = "SELECT count(*) FROM uses";
    store.db().query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn uses_of_what_is_gone_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let note = "INSERT INTO uses VALUES ('gone', 1)";
    store.db().execute(note, []).unwrap();
    assert_eq!(count_of_uses(&store), 1);
    store.maintenance().prune(&Prune::default()).unwrap();
    assert_eq!(count_of_uses(&store), 0);
}

/// A policy of a disk that others have filled.
fn full_disk(reserved: u64) -> Policy {
    Policy {
        keep_free: Some(u64::MAX >> 8),
        reserved,
        ..Policy::default()
    }
}

#[test]
fn free_space_is_never_made_from_what_is_reserved() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    for (name, hours) in [("new", 1), ("old", 50)] {
        layer(&maker, name, 400_000, 1, hours);
    }
    drop(maker);
    let store = open(dir.path());
    let floor = |bytes: u64| full_disk(store.maintenance().own_bytes() + bytes);
    for (reserved, want) in [
        (u64::MAX, &["new", "old"][..]),
        (900_000, &["new", "old"]),
        (500_000, &["new"]),
        (0, &[]),
    ] {
        let policy = floor(reserved.min(u64::MAX >> 9));
        let removed = store.maintenance().collect(&policy, true).unwrap();
        assert_eq!(steps(&store), want, "{reserved}");
        assert_eq!(
            store.maintenance().excess(&policy).unwrap() > 0,
            reserved == 0,
            "{reserved}"
        );
        let cause = (!removed.items.is_empty()).then_some(Cause::Disk);
        assert_eq!(removed.cause.filter(|_| cause.is_some()), cause);
    }
}

#[test]
fn the_last_build_keeps_what_it_used_though_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    let used = layer(&maker, "used again", 400_000, 1, 50);
    layer(&maker, "of the last build", 400_000, 1, 1);
    layer(&maker, "older", 400_000, 1, 50);
    let mut fill = |dir: &kiln_sys::RootDir| -> Result<()> {
        let mut file = std::fs::File::from(dir.create_new(Path::new("file"), 0o644)?);
        std::io::Write::write_all(&mut file, b"content").unwrap();
        Ok(())
    };
    drop(
        maker
            .cache_mounts()
            .try_cache_mount(None, "m", MountUse::Locked, &mut fill),
    );
    drop(maker);
    let builder = open(dir.path());
    builder.layer(used.as_str()).unwrap();
    builder.maintenance().note_uses().unwrap();
    let began = SystemTime::now() - Duration::from_secs(2 * 3600);
    builder.maintenance().note_build(began).unwrap();
    drop(builder);
    let store = open(dir.path());
    let removed = store.maintenance().collect(&full_disk(0), true).unwrap();
    assert_eq!(removed.cause, Some(Cause::Disk));
    assert_eq!(steps(&store), ["of the last build", "used again"]);
    let mounts = |store: &Store| {
        let items = store.maintenance().items().unwrap();
        items.iter().filter(|i| i.class == Class::Mounts).count()
    };
    assert_eq!(mounts(&store), 1);
    // The cap is a promise: it is kept whatever the last build used.
    let removed = store.maintenance().collect(&cap(&store, 10), true).unwrap();
    assert_eq!(removed.cause, Some(Cause::Cap));
    assert_eq!((steps(&store).len(), mounts(&store)), (0, 0));
}

#[test]
fn a_run_is_known_after_its_result_was_removed_for_space() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = layer(&store, "step", 1000, 1, 1);
    let origin = Origin {
        project: "p".into(),
        step: "0:1".into(),
        instruction: "i".into(),
    };
    let record = NewRecord {
        key: Key([7; 32]),
        layer: &id,
        ran_at: SystemTime::now() - Duration::from_secs(3600),
        took: Duration::from_secs(1),
        name: "step",
        origin: &origin,
        made: None,
        inputs: &[],
    };
    store.records().put_record(&record).unwrap();
    let known = |store: &Store| -> Vec<bool> {
        let runs = store.records().earlier(&origin).unwrap();
        runs.iter().map(|run| run.removed).collect()
    };
    assert_eq!(known(&store), [false]);
    drop(store);
    let store = open(dir.path());
    store.maintenance().collect(&full_disk(0), true).unwrap();
    assert_eq!((steps(&store).len(), known(&store)), (0, vec![true]));
    // Made again, it is a run like others; pruned, it is forgotten.
    let id = layer(&store, "again", 1000, 1, 1);
    let record = NewRecord {
        layer: &id,
        ..record
    };
    store.records().put_record(&record).unwrap();
    assert_eq!(known(&store), [false]);
    drop(store);
    let store = open(dir.path());
    store.maintenance().collect(&full_disk(0), true).unwrap();
    assert_eq!(known(&store), [true]);
    let all = Prune {
        all: true,
        ..Prune::default()
    };
    store.maintenance().prune(&all).unwrap();
    assert_eq!(known(&store), [false; 0]);
}

#[test]
fn many_records_are_pruned_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .write(|tx| {
            tx.execute_batch(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                 INSERT INTO layers SELECT printf('%024x-1-1', i), 'd' || i, 't', 1, 10, 1, NULL, NULL, NULL FROM n;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                 INSERT INTO records SELECT printf('%064x', i), printf('%024x-1-1', i), 1, 1, 1, 'RUN ' || i, NULL, NULL FROM n;",
            )?;
            Ok(())
        })
        .unwrap();
    assert_eq!(store.maintenance().total().unwrap(), 500_000);
    let started = std::time::Instant::now();
    let removed = store.maintenance().prune(&Prune::default()).unwrap();
    tracing::info!(took = ?started.elapsed(), "pruned");
    assert_eq!((removed.items.len(), removed.bytes()), (50_000, 500_000));
    let left: i64 = store
        .db()
        .query_row(
            "SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM layers)",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!((left, store.maintenance().total().unwrap()), (0, 0));
}

#[test]
fn images_without_a_name_go_when_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let maker = open(dir.path());
    for (name, named) in [("one", true), ("two", false)] {
        let id = layer(&maker, name, 10_000, 1, 1);
        let diff = maker.layer(id.as_str()).unwrap().unwrap().diff_id;
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}},"config":{{}}}}"#
        );
        let config = maker.put_blob(config.as_bytes()).unwrap();
        let reference = name.parse().unwrap();
        maker
            .put_image(named.then_some(&reference), &config, None)
            .unwrap();
    }
    drop(maker);
    let store = open(dir.path());
    store.maintenance().prune(&Prune::default()).unwrap();
    assert_eq!(steps(&store), ["one", "two"]);
    store
        .maintenance()
        .collect(&cap(&store, 15_000), true)
        .unwrap();
    assert_eq!(steps(&store), ["one"]);
    assert_eq!(store.images().unwrap().len(), 1);
    store
        .maintenance()
        .collect(&cap(&store, 5_000), true)
        .unwrap();
    assert_eq!(steps(&store), ["one"]);
}
