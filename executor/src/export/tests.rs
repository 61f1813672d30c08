use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use kiln_cache::pack;
use kiln_image::archive::{Archive, OciLayout};
use kiln_image::{Compression, ImageConfig, Manifest, Platform, Reference, media_type};
use kiln_solver::lower::HistoryLine;
use kiln_sys::{FileKind, RootDir};

use super::*;
use crate::Worker;
use crate::output::{LayerRef, Output};
use crate::testing;

/// What a test writes into a layer.
enum Make {
    File(&'static str, &'static str, u32),
    Dir(&'static str),
    Link(&'static str, &'static str),
    Hard(&'static str, &'static str),
    Gone(&'static str),
    Opaque(&'static str),
}
use Make::{Dir, File, Gone, Hard, Link, Opaque};

/// A layer as a step would have left it.
fn layer(engine: &Worker, content: &[Make], epoch: Option<u64>) -> LayerRef {
    let store = engine.store();
    let scratch = store.scratch().unwrap();
    let dir = scratch.path().join("diff");
    std::fs::create_dir(&dir).unwrap();
    let root = RootDir::open_trusted(&dir).unwrap();
    for one in content {
        match one {
            File(path, text, mode) => {
                std::fs::write(dir.join(path), text).unwrap();
                root.chmod(Path::new(path), *mode).unwrap();
            }
            Dir(path) => std::fs::create_dir_all(dir.join(path)).unwrap(),
            Link(path, to) => symlink(to, dir.join(path)).unwrap(),
            Hard(path, to) => std::fs::hard_link(dir.join(to), dir.join(path)).unwrap(),
            Gone(path) => root
                .mknod(Path::new(path), FileKind::CharDevice, 0, (0, 0))
                .unwrap(),
            Opaque(path) => {
                std::fs::create_dir_all(dir.join(path)).unwrap();
                root.set_xattr(Path::new(path), b"trusted.overlay.opaque", b"y")
                    .unwrap();
            }
        }
    }
    let packed = pack(&dir, epoch, &mut std::io::sink()).unwrap();
    let id = store.adopt_layer(&dir).unwrap();
    store.record_layer(&id, &packed, SystemTime::now()).unwrap();
    LayerRef::stored(id, None)
}

fn assembly(layers: Vec<LayerRef>, own: usize) -> Assembly {
    let line = |n| HistoryLine {
        created_by: format!("RUN {n}"),
        empty: false,
    };
    Assembly {
        config: ImageConfig::for_platform(&Platform::host()),
        history: (0..own).map(line).collect(),
        output: Some(Output::Layers(layers)),
        epoch: None,
    }
}

/// Collects what is written.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn tar_of(engine: &Worker, layers: &[LayerRef], epoch: Option<u64>) -> Vec<u8> {
    let out = Buffer::default();
    let write = engine
        .exporter()
        .write_tar(layers, Box::new(out.clone()), epoch);
    testing::runtime().block_on(write).unwrap();
    std::mem::take(&mut *out.0.lock().unwrap())
}

fn stream(path: &Path) -> ArchiveTarget {
    ArchiveTarget::Stream(Box::new(std::fs::File::create(path).unwrap()))
}

#[test]
#[ignore = "needs root"]
fn archives_come_back_as_the_same_image() {
    let (engine, dir) = testing::engine();
    let runtime = testing::runtime();
    // Later than the epoch, so that only the clamped tar has the recorded digest.
    let one = layer(
        &engine,
        &[File("a", "one", 0o644), Dir("d"), File("d/x", "x", 0o4755)],
        Some(1000),
    );
    let two = layer(
        &engine,
        &[Gone("a"), File("b", "two", 0o600), Hard("c", "b")],
        None,
    );
    let image = runtime
        .block_on(
            engine
                .exporter()
                .assemble(assembly(vec![one, two], 2), false),
        )
        .unwrap();
    let names: Vec<Reference> = ["x:1", "example.com/y/z:2"]
        .iter()
        .map(|n| n.parse().unwrap())
        .collect();
    let before = tar_of(&engine, &image.layers, Some(1000));
    let gzip = LayerForm {
        compression: Compression::Gzip,
        level: None,
        all: false,
    };
    let mut forms = vec![
        None,
        Some(gzip),
        Some(LayerForm {
            level: Some(9),
            ..gzip
        }),
    ];
    forms.push(Some(LayerForm {
        compression: Compression::Zstd,
        ..gzip
    }));
    for (n, layers) in forms.into_iter().enumerate() {
        for form in [ArchiveForm::Oci, ArchiveForm::Docker] {
            let path = dir.path().join(format!("{n}{form:?}.tar"));
            let mut export = ExportImage::built(&image, &names);
            export.annotations.insert("k".into(), "v".into());
            let write =
                engine
                    .exporter()
                    .write_archive(vec![export.clone()], form, layers, stream(&path));
            runtime.block_on(write).unwrap();
            let again = dir.path().join("again.tar");
            let write = engine
                .exporter()
                .write_archive(vec![export], form, layers, stream(&again));
            runtime.block_on(write).unwrap();
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
            let (other, _other_dir) = testing::engine();
            let archive = Archive::open(&path).unwrap();
            let loaded = runtime
                .block_on(other.images().load(archive, &Platform::host()))
                .unwrap();
            assert_eq!(loaded.len(), 1);
            assert_eq!((&loaded[0].id, &loaded[0].names), (&image.id, &names));
            let found = other.store().find_image("x:1").unwrap();
            let back = other.exporter().exportable(&found, names.clone()).unwrap();
            assert!(
                tar_of(&other, &back.layers, Some(1000)) == before,
                "{layers:?} {form:?}"
            );
            // What came in goes out again, byte for byte where nothing asks for another form.
            let out = dir.path().join("out.tar");
            let write =
                other
                    .exporter()
                    .write_archive(vec![back], ArchiveForm::Oci, None, stream(&out));
            runtime.block_on(write).unwrap();
            let (Archive::Oci(first), Archive::Oci(second)) =
                (Archive::open(&path).unwrap(), Archive::open(&out).unwrap())
            else {
                panic!("not OCI");
            };
            let digest = |l: &OciLayout| l.index().value.manifests[0].digest.clone();
            assert_eq!(digest(&first), digest(&second), "{layers:?} {form:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn layouts_are_base_images() {
    let (engine, dir) = testing::engine();
    let runtime = testing::runtime();
    let tiny = kiln_testkit::TinyImage::of_files(&[("etc/os", b"tiny")]).unwrap();
    let place = dir.path().join("layout");
    let mut writer = kiln_image::archive::OciDirWriter::new(&place).unwrap();
    for (blob, bytes) in tiny.layers.iter().chain([&tiny.config, &tiny.manifest]) {
        writer.blob(blob, &mut &bytes[..]).unwrap();
    }
    let tag = kiln_image::archive::ANNOTATION_REF_NAME;
    writer
        .finish(vec![tiny.manifest.0.clone().with_annotation(tag, "v1")])
        .unwrap();
    let shown = place.display();
    let resolve = |text: &str| {
        use kiln_solver::ports::Resolver as _;
        runtime.block_on(engine.resolve(text, &Platform::host()))
    };
    let digest = &tiny.manifest.0.digest;
    for text in [
        format!("oci-layout://{shown}"),
        format!("oci-layout://{shown}:v1"),
        format!("oci-layout://{shown}@{digest}"),
    ] {
        let image = resolve(&text).unwrap();
        assert!(
            !image.name.to_string().contains("layout/"),
            "no paths in keys: {}",
            image.name
        );
        let layers = engine
            .images()
            .image_layers(image.name.reference(), &image.id, None)
            .unwrap();
        let ids = runtime
            .block_on(engine.layers().materialise(&layers))
            .unwrap();
        let file = engine.store().layer_dir(&ids[0]).join("etc/os");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "tiny");
    }
    let error = resolve(&format!("oci-layout://{shown}:v2"))
        .unwrap_err()
        .message;
    assert!(error.contains("it holds: v1"), "{error}");
    assert!(resolve(&format!("oci-layout://{shown}/none")).is_err());
    // A blob that is not what its name says.
    let (other, _other) = testing::engine();
    let blob = place
        .join("blobs/sha256")
        .join(tiny.layers[0].0.digest.hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    use kiln_solver::ports::Resolver as _;
    let text = format!("oci-layout://{shown}");
    assert!(
        runtime
            .block_on(other.resolve(&text, &Platform::host()))
            .is_err()
    );
}

#[test]
#[ignore = "needs root"]
fn archives_that_lie_are_refused_and_leave_no_image() {
    let (engine, dir) = testing::engine();
    let runtime = testing::runtime();
    let tiny = kiln_testkit::TinyImage::of_layers(&[&[("a", b"1")], &[("b", b"2")]]).unwrap();
    // Both layers are good blobs, in the wrong order: the diff ids tell.
    let layers = vec![tiny.layers[1].0.clone(), tiny.layers[0].0.clone()];
    let manifest = kiln_image::ImageManifest::oci(tiny.config.0.clone(), layers)
        .to_json()
        .unwrap();
    let entry = kiln_image::Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    let path = dir.path().join("lie.tar");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = kiln_image::archive::OciTarWriter::new(file);
    for (blob, bytes) in tiny.layers.iter().chain([&tiny.config]) {
        writer.blob(blob, &mut &bytes[..]).unwrap();
    }
    writer.blob(&entry, &mut manifest.as_slice()).unwrap();
    writer.finish(vec![entry]).unwrap();
    let archive = Archive::open(&path).unwrap();
    let error = runtime
        .block_on(engine.images().load(archive, &Platform::host()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("was expected"), "{error}");
    assert!(engine.store().images().unwrap().is_empty());
}

#[test]
fn files_come_out_as_they_are_and_only_where_they_should() {
    let (engine, dir) = testing::engine();
    let runtime = testing::runtime();
    let content = [
        Dir("sub"),
        File("sub/inner", "inner", 0o640),
        File("suid", "s", 0o4755),
        Hard("suid2", "suid"),
        Link("up", "../../outside"),
        Link("etc", "/etc"),
        Gone("gone"),
    ];
    let one = layer(&engine, &content, None);
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let dest = dir.path().join("dest");
    std::fs::create_dir(&dest).unwrap();
    // Links that are there already, over which other engines wrote.
    symlink(&outside, dest.join("sub")).unwrap();
    symlink(outside.join("file"), dest.join("suid")).unwrap();
    std::fs::write(dest.join("stays"), "mine").unwrap();
    for _ in 0..2 {
        runtime
            .block_on(
                engine
                    .exporter()
                    .write_files(std::slice::from_ref(&one), &dest, Some(1000)),
            )
            .unwrap();
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(
        std::fs::read_to_string(dest.join("sub/inner")).unwrap(),
        "inner"
    );
    assert_eq!(std::fs::read_to_string(dest.join("stays")).unwrap(), "mine");
    assert!(!dest.join("gone").exists());
    let meta = |name: &str| std::fs::symlink_metadata(dest.join(name)).unwrap();
    assert_eq!(meta("suid").permissions().mode() & 0o7777, 0o4755);
    assert_eq!(meta("suid").ino(), meta("suid2").ino());
    assert_eq!(
        (
            meta("suid").mtime(),
            meta("sub").mtime(),
            meta("up").mtime()
        ),
        (1000, 1000, 1000)
    );
    assert_eq!(
        std::fs::read_link(dest.join("up")).unwrap(),
        PathBuf::from("../../outside")
    );
    assert_eq!(meta("sub/inner").permissions().mode() & 0o7777, 0o640);
    // A directory of the user's is not thrown away for a file.
    let blocked = dir.path().join("blocked");
    std::fs::create_dir_all(blocked.join("suid/mine")).unwrap();
    let error = runtime
        .block_on(engine.exporter().write_files(&[one], &blocked, None))
        .unwrap_err();
    assert!(error.to_string().contains("`suid`"), "{error}");
    assert!(blocked.join("suid/mine").exists());
}

#[test]
#[ignore = "needs root"]
fn a_squashed_image_has_the_same_files() {
    let (engine, _dir) = testing::engine();
    let runtime = testing::runtime();
    let base = [
        Dir("keep"),
        File("keep/a", "base a", 0o644),
        File("keep/b", "base b", 0o644),
        Dir("wiped"),
        File("wiped/old", "old", 0o644),
        Dir("redone"),
        File("redone/old", "old", 0o644),
        File("file", "base", 0o644),
        Dir("dir"),
        File("dir/x", "x", 0o644),
        File("removed", "r", 0o644),
    ];
    let base = layer(&engine, &base, None);
    let own = [
        layer(
            &engine,
            &[
                Dir("keep"),
                Gone("keep/a"),
                File("keep/new", "1", 0o644),
                Opaque("wiped"),
                File("wiped/fresh", "f", 0o600),
                Gone("redone"),
                Gone("file"),
                Gone("dir"),
                File("passing", "p", 0o644),
                Gone("removed"),
                File("l1", "linked", 0o644),
                Hard("l2", "l1"),
                Dir("made"),
                File("made/a", "a", 0o644),
            ],
            None,
        ),
        layer(
            &engine,
            &[
                Dir("keep"),
                File("keep/new", "2", 0o755),
                Gone("keep/never"),
                Dir("redone"),
                File("redone/new", "n", 0o644),
                Dir("file"),
                File("file/now-a-dir", "d", 0o644),
                Link("dir", "keep"),
                Gone("passing"),
                Dir("wiped"),
                Gone("wiped/fresh"),
                File("removed", "back", 0o644),
                Opaque("made"),
                File("made/b", "b", 0o644),
            ],
            None,
        ),
    ];
    let mut stack = vec![base.clone()];
    stack.extend(own.iter().cloned());
    let before = tar_of(&engine, &stack, None);
    let squashed = runtime
        .block_on(engine.exporter().squash(&stack, 1, None))
        .unwrap();
    assert_eq!(squashed.len(), 2);
    assert_eq!(squashed[0].id(), base.id());
    assert!(tar_of(&engine, &squashed, None) == before);
    // A file that came and went leaves no mark.
    let top = engine.store().layer_dir(squashed[1].id().unwrap());
    assert!(std::fs::symlink_metadata(top.join("passing")).is_err());
    assert!(std::fs::symlink_metadata(top.join("keep/never")).is_err());
    assert!(std::fs::symlink_metadata(top.join("keep/a")).is_ok());
    // Nothing is made a second time, and without a base no marks are needed.
    let again = runtime
        .block_on(engine.exporter().squash(&stack, 1, None))
        .unwrap();
    assert_eq!(again[1].id(), squashed[1].id());
    let alone = runtime
        .block_on(engine.exporter().squash(&stack, 0, None))
        .unwrap();
    assert!(tar_of(&engine, &alone, None) == before);
    let raw = pack(
        &engine.store().layer_dir(alone[0].id().unwrap()),
        None,
        &mut std::io::sink(),
    );
    assert_eq!(
        raw.unwrap().diff_id.digest(),
        &kiln_image::Digest::of(&before)
    );
    // A layer that hides all that is below hides the base, too.
    let wiped = layer(&engine, &[Opaque(""), File("only", "o", 0o644)], None);
    let top = layer(&engine, &[File("later", "l", 0o644)], None);
    let mut wiped = vec![base.clone(), own[0].clone(), wiped, top];
    let seen = tar_of(&engine, &wiped, None);
    wiped = runtime
        .block_on(engine.exporter().squash(&wiped, 1, None))
        .unwrap();
    assert_eq!(wiped.len(), 2);
    assert!(tar_of(&engine, &wiped, None) == seen);
    assert!(!seen.windows(6).any(|w| w == b"base b"));
    // The layers that it was made of are as they were.
    assert!(tar_of(&engine, &stack, None) == before);
    let image = runtime
        .block_on(engine.exporter().assemble(assembly(stack, 3), true))
        .unwrap();
    assert_eq!(image.layers.len(), 1);
    let carrying = image
        .config
        .history
        .iter()
        .filter(|h| !h.empty_layer)
        .count();
    assert_eq!((carrying, image.config.history.len()), (1, 4));
}

#[test]
fn annotations_stay_with_a_stored_image() {
    let (engine, dir) = testing::engine();
    let runtime = testing::runtime();
    let one = layer(&engine, &[File("a", "one", 0o644)], None);
    let image = runtime
        .block_on(engine.exporter().assemble(assembly(vec![one], 1), false))
        .unwrap();
    let annotations = BTreeMap::from([("a.b".to_owned(), "c".to_owned())]);
    let manifest = engine.exporter().annotate(&image, &annotations).unwrap();
    let name: Reference = "n:1".parse().unwrap();
    engine
        .store()
        .put_image(Some(&name), &image.id, Some(&manifest))
        .unwrap();
    let stored = engine.store().find_image("n:1").unwrap();
    let export = engine.exporter().exportable(&stored, vec![name]).unwrap();
    let gzip = LayerForm {
        compression: Compression::Gzip,
        level: None,
        all: false,
    };
    for form in [None, Some(gzip)] {
        let path = dir.path().join("a.tar");
        let write = engine.exporter().write_archive(
            vec![export.clone()],
            ArchiveForm::Oci,
            form,
            stream(&path),
        );
        runtime.block_on(write).unwrap();
        let Archive::Oci(layout) = Archive::open(&path).unwrap() else {
            panic!("not OCI")
        };
        let Manifest::Image(found) = layout.manifest(&layout.index().value.manifests[0]).unwrap()
        else {
            panic!("not an image");
        };
        assert_eq!(found.value.annotations, annotations);
    }
}

#[test]
fn layers_are_compared_with_those_below() {
    let (engine, _dir) = testing::engine();
    let below = layer(
        &engine,
        &[
            File("same", "content", 0o644),
            File("other", "content", 0o644),
            File("size", "content", 0o644),
            Dir("d"),
            File("d/deep", "larger content", 0o644),
            File("gone", "content", 0o644),
        ],
        None,
    );
    let above = layer(
        &engine,
        &[
            // Another mode, the same bytes.
            File("same", "content", 0o600),
            Hard("same-again", "same"),
            File("other", "CONTENT", 0o644),
            File("size", "contents", 0o644),
            File("new", "content", 0o644),
            Dir("d"),
            File("d/deep", "larger content", 0o644),
            Gone("gone"),
        ],
        None,
    );
    let compared = |layers: Vec<LayerRef>| {
        let found =
            testing::runtime().block_on(engine.comparer().repeated(&Output::Layers(layers)));
        let show = |r: &Repeated| (r.files, r.bytes, r.largest.clone());
        found.unwrap().iter().map(show).collect::<Vec<_>>()
    };
    let nothing = (0, 0, String::new());
    let again = (2, 21, "/d/deep".to_owned());
    assert_eq!(
        compared(vec![below.clone(), above.clone()]),
        [nothing.clone(), again]
    );
    assert_eq!(compared(vec![above]), [nothing]);
}
