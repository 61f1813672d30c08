use kiln_image::{Descriptor, ImageConfig, ImageIndex, ImageManifest, Platform};

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
    let found = |name: &Reference| store.try_image(&name.to_string()).unwrap().is_some();
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
