use std::collections::BTreeMap;

use kiln_image::{Descriptor, ImageIndex, ImageManifest, Platform, media_type};

use super::*;

fn put(store: &Store, kind: &str, raw: &[u8]) -> Descriptor {
    store.put_blob(raw).unwrap();
    Descriptor::of(kind, raw)
}

#[test]
fn an_image_is_had_by_the_digests_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let config = ImageConfig::for_platform(&Platform::host());
    let config = put(&store, media_type::OCI_CONFIG, &config.to_json().unwrap());
    let manifest = ImageManifest::oci(config.clone(), Vec::new());
    let manifest = put(
        &store,
        media_type::OCI_MANIFEST,
        &manifest.to_json().unwrap(),
    );
    let index = |entry: &Descriptor, is_kept| {
        let raw = ImageIndex::oci(vec![entry.clone()]).to_json().unwrap();
        if is_kept {
            put(&store, media_type::OCI_INDEX, &raw)
        } else {
            Descriptor::of(media_type::OCI_INDEX, &raw)
        }
    };
    let inner = index(&manifest, true);
    let outer = index(&inner, true);
    let gone = index(&outer, false);
    let other = put(&store, media_type::OCI_INDEX, b"{\"manifests\":[]}");
    let another = ImageConfig::for_platform(&Platform::new("linux", "s390x", None));
    let another = put(&store, media_type::OCI_CONFIG, &another.to_json().unwrap());

    let name = |digest: &Digest| Reference::parse(&format!("app@{digest}")).unwrap();
    let found = |name: &Reference| store.image_named(name).unwrap().is_some();
    for (what, digest, config, manifest, is_had) in [
        ("a manifest", &manifest, &config, Some(&manifest), true),
        ("its index", &inner, &config, Some(&manifest), true),
        ("the index of that", &outer, &config, Some(&manifest), true),
        (
            "an index that is gone",
            &gone,
            &config,
            Some(&manifest),
            false,
        ),
        ("another index", &other, &config, Some(&manifest), false),
        ("a digest that was given", &other, &config, None, false),
        ("its config", &config, &config, Some(&manifest), false),
        (
            "another config",
            &manifest,
            &another,
            Some(&manifest),
            false,
        ),
    ] {
        let name = name(&digest.digest);
        let manifest = manifest.map(|manifest| &manifest.digest);
        store
            .put_image(Some(&name), &config.digest, manifest)
            .unwrap();
        assert_eq!(found(&name), is_had, "{what}");
        store
            .write(|tx| {
                tx.execute("DELETE FROM images", [])?;
                Ok(())
            })
            .unwrap();
    }

    // By the tag that it was pulled under, it is known by its manifest's digest, and that of no other.
    let tag = Reference::parse("app:1").unwrap();
    let own = Some(&manifest.digest);
    store.put_image(Some(&tag), &config.digest, own).unwrap();
    assert!(found(&name(&manifest.digest)) && !found(&name(&inner.digest)));
    store.put_image(Some(&tag), &another.digest, own).unwrap();
    assert!(
        !found(&name(&manifest.digest)),
        "a manifest of another image"
    );
}

#[test]
fn an_id_means_its_image_whatever_names_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let put = |arch: &str| {
        let config = ImageConfig::for_platform(&Platform::new("linux", arch, None));
        store.put_blob(&config.to_json().unwrap()).unwrap()
    };
    let (one, other) = (put("one"), put("other"));
    store.put_image(None, &one, None).unwrap();
    // Names that come from a registry, and one of a store of before.
    let poses = Reference::from_parts("docker.io", "sha256", Some(one.hex()), None).unwrap();
    for name in [&poses, &Reference::parse(one.short()).unwrap()] {
        store.put_image(Some(name), &other, None).unwrap();
    }
    for text in [one.as_str(), one.hex(), one.short(), &one.as_str()[..19]] {
        assert_eq!(store.find_image(text).unwrap().row.config, one, "{text}");
    }
    // What is no id here is a name.
    let name = Reference::parse("cafecafecafe").unwrap();
    store.put_image(Some(&name), &other, None).unwrap();
    let found = store.find_image("cafecafecafe").unwrap();
    assert_eq!(found.row.config, other);
}

#[test]
fn a_check_finds_nothing_wrong_while_images_come_and_go() {
    const ROUNDS: usize = 90;
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let makers: Vec<_> = ["a", "b", "a"]
            .into_iter()
            .map(|arch| {
                let dir = dir.path();
                scope.spawn(move || {
                    let name = Reference::parse(&format!("app:{arch}")).unwrap();
                    let config = ImageConfig::for_platform(&Platform::new("linux", arch, None));
                    let raw = config.to_json().unwrap();
                    for round in 0..ROUNDS {
                        // As commands do it, each with a store of its own.
                        let store = Store::open(dir).unwrap();
                        let id = store.put_blob(&raw).unwrap();
                        store.put_image(Some(&name), &id, None).unwrap();
                        drop(store);
                        let store = Store::open(dir).unwrap();
                        match round % 3 {
                            0 => drop(store.remove_name(&name, &id).unwrap()),
                            1 => store.remove_image(&id).unwrap(),
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        let checker = scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let store = Store::open(dir.path()).unwrap();
                for repair in [false, true] {
                    let report = store.maintenance().check(repair, &|_, _| {}).unwrap();
                    assert_eq!(report.findings, [], "repair: {repair}");
                    assert_eq!(report.images, [], "repair: {repair}");
                }
            }
        });
        for maker in makers {
            maker.join().unwrap();
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        checker.join().unwrap();
    });
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(
        store
            .maintenance()
            .check(false, &|_, _| {})
            .unwrap()
            .findings,
        []
    );
}

#[test]
fn an_image_of_many_names_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let put = |platform: &Platform| {
        let raw = ImageConfig::for_platform(platform).to_json().unwrap();
        store.put_blob(&raw).unwrap()
    };
    let (one, gone) = (
        put(&Platform::host()),
        put(&Platform::new("linux", "s390x", None)),
    );
    for n in 0..50 {
        let name = Reference::parse(&format!("many:{n}")).unwrap();
        store.put_image(Some(&name), &one, None).unwrap();
    }
    store.put_image(None, &gone, None).unwrap();
    store.remove_blob(&gone).unwrap();
    let rows = store.images().unwrap();
    assert_eq!(rows.len(), 51);
    let configs = store.configs_of(&rows).unwrap();
    assert_eq!(configs.keys().collect::<Vec<_>>(), [&one]);
}

#[test]
fn an_image_is_found_by_the_start_of_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    // Until two of them begin with the same four digits.
    let mut known: BTreeMap<String, Digest> = BTreeMap::new();
    let mut number = 0;
    let (first, second) = loop {
        let mut config = ImageConfig::for_platform(&Platform::host());
        config.author = Some(number.to_string());
        number += 1;
        let id = store.put_blob(&config.to_json().unwrap()).unwrap();
        if let Some(other) = known.insert(id.hex()[..4].to_owned(), id.clone()) {
            break (other, id);
        }
    };
    let found = |text: &str| store.try_image(text).map(|i| i.map(|i| i.row.config));
    store.put_image(None, &first, None).unwrap();
    for text in [
        &first.hex()[..4],
        &first.hex()[..12],
        first.hex(),
        first.as_str(),
    ] {
        assert_eq!(found(text).unwrap(), Some(first.clone()), "{text}");
    }
    assert_eq!(found(second.hex()).unwrap(), None);
    store.put_image(None, &second, None).unwrap();
    assert!(matches!(found(&first.hex()[..4]), Err(Error::Ambiguous(_))));
    assert_eq!(found(second.as_str()).unwrap(), Some(second));
}
