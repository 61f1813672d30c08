use std::process::Command;

use super::*;
use crate::compression::Encoder;
use crate::config::ImageConfig;
use crate::descriptor::{Descriptor, media_type};
use crate::digest::DiffId;
use crate::layer::{Entry, EntryKind, LayerWriter};
use crate::manifest::{ImageIndex, ImageManifest, Manifest};
use crate::platform::Platform;

struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    stored: Vec<u8>,
}

fn image(text: &str) -> Image {
    use std::io::Write;
    let mut tar = LayerWriter::new(Vec::new());
    let entry = Entry::new(
        "hello",
        EntryKind::File {
            size: text.len() as u64,
        },
        0o644,
    );
    tar.append(&entry, &mut text.as_bytes()).unwrap();
    let layer = tar.finish().unwrap();
    let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None, 1).unwrap();
    encoder.write_all(&layer).unwrap();
    let stored = encoder.finish().unwrap();
    let mut config = ImageConfig::for_platform(&Platform::host());
    config.rootfs.diff_ids = vec![DiffId::new(Digest::of(&layer))];
    let config = config.to_json().unwrap();
    let manifest = ImageManifest::oci(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of(media_type::OCI_LAYER_GZIP, &stored)],
    );
    Image {
        layer,
        config,
        manifest: manifest.to_json().unwrap(),
        stored,
    }
}

impl Image {
    fn blobs(&self) -> Vec<(Descriptor, &[u8])> {
        vec![
            (
                Descriptor::of(media_type::OCI_LAYER_GZIP, &self.stored),
                &self.stored[..],
            ),
            (
                Descriptor::of(media_type::OCI_CONFIG, &self.config),
                &self.config,
            ),
            (self.descriptor(), &self.manifest),
        ]
    }
    fn descriptor(&self) -> Descriptor {
        Descriptor::of(media_type::OCI_MANIFEST, &self.manifest)
    }
    fn named(&self, name: &str) -> Descriptor {
        let name: Reference = name.parse().unwrap();
        self.descriptor()
            .with_annotation(ANNOTATION_IMAGE_NAME, name.to_string())
            .with_annotation(ANNOTATION_REF_NAME, name.tag().unwrap())
    }
    fn entry(&self, name: &str) -> ImageEntry {
        ImageEntry {
            names: vec![name.parse().unwrap()],
            config: Digest::of(&self.config),
            layers: vec![Digest::of(&self.stored)],
        }
    }
}

use crate::reference::Reference;

fn saved(image: &Image, name: &str) -> Vec<u8> {
    let mut writer = OciTarWriter::new(Vec::new());
    for (descriptor, data) in image.blobs() {
        writer.blob(&descriptor, &mut &*data).unwrap();
        writer.blob(&descriptor, &mut io::empty()).unwrap();
    }
    writer
        .finish_docker(vec![image.named(name)], &[image.entry(name)])
        .unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A tar of files and links for hand-made archives.
fn tar_of(members: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = LayerWriter::new(Vec::new());
    for (path, data) in members {
        let entry = Entry::new(
            *path,
            EntryKind::File {
                size: data.len() as u64,
            },
            0o644,
        );
        tar.append(&entry, &mut &**data).unwrap();
    }
    for (path, target) in links {
        let entry = Entry::new(
            *path,
            EntryKind::Symlink {
                target: (*target).into(),
            },
            0o777,
        );
        tar.append(&entry, &mut io::empty()).unwrap();
    }
    tar.finish().unwrap()
}

fn check_layout(layout: &OciLayout, image: &Image, name: &str) {
    let found: Vec<_> = layout.named(name).collect();
    assert_eq!(found, [&image.named(name)]);
    let Manifest::Image(manifest) = layout.manifest(found[0]).unwrap() else {
        panic!()
    };
    assert_eq!(manifest.raw, image.manifest);
    assert_eq!(
        layout.read_blob(&manifest.value.config, 1 << 20).unwrap(),
        image.config
    );
    let mut stored = Vec::new();
    layout
        .blob(&manifest.value.layers[0])
        .unwrap()
        .read_to_end(&mut stored)
        .unwrap();
    assert_eq!(stored, image.stored);
    assert!(layout.read_blob(&manifest.value.config, 3).is_err());
    assert!(!layout.contains(&Digest::of(b"not there")));
}

#[test]
fn tars_and_directories_are_read_again() {
    let (one, two) = (image("one"), image("two"));
    let tar = saved(&one, "localhost:5000/one:1");
    assert_eq!(tar, saved(&one, "localhost:5000/one:1"));
    let Archive::Oci(layout) = Archive::from_file(file_of(&tar)).unwrap() else {
        panic!()
    };
    check_layout(&layout, &one, "localhost:5000/one:1");

    let dir = tempfile::tempdir().unwrap();
    for (image, name) in [
        (&one, "one:1"),
        (&two, "two:2"),
        (&two, "one:1"),
        (&one, "one:1"),
    ] {
        let mut writer = OciDirWriter::new(dir.path()).unwrap();
        for (descriptor, data) in image.blobs() {
            writer.blob(&descriptor, &mut &*data).unwrap();
        }
        writer.finish(vec![image.named(name)]).unwrap();
    }
    let Archive::Oci(layout) = Archive::open(dir.path()).unwrap() else {
        panic!()
    };
    check_layout(&layout, &one, "one:1");
    check_layout(&layout, &two, "two:2");
    assert_eq!(layout.index().value.manifests.len(), 2);
    let left = |suffix: &str| {
        std::fs::read_dir(dir.path().join("blobs/sha256"))
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .ends_with(suffix)
            })
            .count()
    };
    assert_eq!((left(".partial"), left("")), (0, 6));
}

#[test]
fn compressed_archives_go_through_a_scratch_file() {
    use std::io::Write;
    let one = image("one");
    let tar = saved(&one, "one:1");
    let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None, 1).unwrap();
    encoder.write_all(&tar).unwrap();
    let gzip = encoder.finish().unwrap();
    assert!(matches!(
        Archive::from_file(file_of(&gzip)),
        Err(ArchiveError::Compressed(Compression::Gzip))
    ));
    let scratch = || tempfile::tempfile().unwrap();
    let open =
        |limit| Archive::from_reader(Box::new(io::Cursor::new(gzip.clone())), scratch(), limit);
    let Archive::Oci(layout) = open(1 << 20).unwrap() else {
        panic!()
    };
    check_layout(&layout, &one, "one:1");
    assert!(matches!(open(1000), Err(ArchiveError::TooLarge { .. })));
}

#[test]
fn classical_docker_archives_are_read() {
    let one = image("one");
    let hex = Digest::of(&one.config).hex().to_owned();
    let config = format!("{hex}.json");
    let json = |layer: &str, tags: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":{tags},"Layers":["{layer}"]}}]"#)
    };
    let tags = r#"["busybox:1","localhost:5000/a/b:c"]"#;
    let plain = json("abc/layer.tar", tags);
    let linked = json("abc/layer.tar", "null");
    let cases = [
        (
            tar_of(
                &[
                    ("abc/layer.tar", &one.layer),
                    (&config, &one.config),
                    ("manifest.json", plain.as_bytes()),
                ],
                &[],
            ),
            2,
        ),
        (
            tar_of(
                &[
                    ("def.tar", &one.layer),
                    (&config, &one.config),
                    ("manifest.json", linked.as_bytes()),
                ],
                &[
                    ("abc/layer.tar", "../x/layer.tar"),
                    ("x/layer.tar", "./../def.tar"),
                ],
            ),
            0,
        ),
    ];
    for (tar, names) in cases {
        let Archive::Docker(archive) = Archive::from_file(file_of(&tar)).unwrap() else {
            panic!()
        };
        let [found] = archive.images() else { panic!() };
        assert_eq!(found.names.len(), names);
        assert_eq!(found.config_raw, one.config);
        let mut layer = Vec::new();
        archive
            .layer(&found.layers[0])
            .unwrap()
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(layer, one.layer);
        assert_eq!(found.layers[0].diff_id, DiffId::new(Digest::of(&layer)));
    }
}

#[test]
fn hostile_and_broken_archives_are_refused() {
    let one = image("one");
    let hex = Digest::of(&one.config).hex().to_owned();
    let config = format!("{hex}.json");
    let item = |config: &str, layers: &str, tags: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":{tags},"Layers":{layers}}}]"#)
    };
    let good = item(&config, r#"["l.tar"]"#, "null");
    let docker = |json: &str, links: &[(&str, &str)]| {
        tar_of(
            &[
                ("l.tar", &one.layer),
                (&config, &one.config),
                ("manifest.json", json.as_bytes()),
            ],
            links,
        )
    };
    assert!(Archive::from_file(file_of(&docker(&good, &[]))).is_ok());
    let wrong_name = format!("{}.json", Digest::of(b"other").hex());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", tar_of(&[], &[])),
        ("no tar", b"hello".repeat(300)),
        (
            "config outside",
            docker(&item("../../etc/passwd", r#"["l.tar"]"#, "null"), &[]),
        ),
        (
            "config absolute",
            docker(&item("/etc/passwd", r#"["l.tar"]"#, "null"), &[]),
        ),
        (
            "layer outside",
            docker(&item(&config, r#"["../l.tar"]"#, "null"), &[]),
        ),
        (
            "layer missing",
            docker(&item(&config, r#"["m.tar"]"#, "null"), &[]),
        ),
        (
            "layers missing",
            docker(&item(&config, "null", "null"), &[]),
        ),
        (
            "bad tag",
            docker(&item(&config, r#"["l.tar"]"#, r#"["../x"]"#), &[]),
        ),
        ("not JSON", docker("{", &[])),
        (
            "link outside",
            docker(
                &item(&config, r#"["x/l"]"#, "null"),
                &[("x/l", "../../l.tar")],
            ),
        ),
        (
            "link absolute",
            docker(&item(&config, r#"["x"]"#, "null"), &[("x", "/etc/passwd")]),
        ),
        (
            "link circle",
            docker(
                &item(&config, r#"["x"]"#, "null"),
                &[("x", "y"), ("y", "x")],
            ),
        ),
        (
            "config of another digest",
            tar_of(
                &[
                    ("l.tar", &one.layer),
                    (&wrong_name, &one.config),
                    (
                        "manifest.json",
                        item(&wrong_name, r#"["l.tar"]"#, "null").as_bytes(),
                    ),
                ],
                &[],
            ),
        ),
        (
            "layout version",
            tar_of(
                &[
                    ("oci-layout", br#"{"imageLayoutVersion":"2.0"}"#),
                    ("index.json", b"{}"),
                ],
                &[],
            ),
        ),
        (
            "layout index",
            tar_of(&[("oci-layout", LAYOUT), ("index.json", b"{}")], &[]),
        ),
        (
            "layout manifest",
            tar_of(
                &[("oci-layout", LAYOUT), ("index.json", &one.manifest)],
                &[],
            ),
        ),
        ("truncated", saved(&one, "one:1")[..2000].to_vec()),
    ];
    for (name, tar) in cases {
        assert!(Archive::from_file(file_of(&tar)).is_err(), "{name}");
    }
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[test]
fn what_is_no_archive_is_told_from_a_cut_one() {
    let whole = tar_of(&[("manifest.json", b"[]")], &[]);
    for (bytes, is_archive) in [
        (&b""[..], false),
        (b"hello\n", false),
        (&[b'x'; 4000], false),
        (&tar_of(&[("words.txt", b"x")], &[]), false),
        (&whole[..300], false),
        (&whole[..513], true),
        (&whole, true),
    ] {
        let opened = Archive::from_file(file_of(bytes));
        let unknown = matches!(opened, Err(ArchiveError::UnknownFormat));
        assert_eq!(unknown, !is_archive, "{} bytes: {opened:?}", bytes.len());
    }
    let dir = tempfile::tempdir().unwrap();
    let opened = Archive::open(dir.path());
    assert!(matches!(opened, Err(ArchiveError::UnknownFormat)));
}

#[test]
fn damaged_blobs_do_not_pass() {
    let one = image("one");
    let index = ImageIndex::oci(vec![one.named("one:1")]).to_json().unwrap();
    let mut bad = one.manifest.clone();
    *bad.last_mut().unwrap() = b' ';
    let path = blob_path(&one.descriptor().digest);
    let tar = tar_of(
        &[
            ("oci-layout", LAYOUT),
            ("index.json", &index),
            (&path, &bad),
        ],
        &[],
    );
    let Archive::Oci(layout) = Archive::from_file(file_of(&tar)).unwrap() else {
        panic!()
    };
    assert!(layout.manifest(&one.named("one:1")).is_err());

    let mut writer = OciTarWriter::new(Vec::new());
    assert!(writer.blob(&one.descriptor(), &mut bad.as_slice()).is_err());
    let writer = OciTarWriter::new(Vec::new());
    assert!(writer.finish(vec![one.descriptor()]).is_err());
    let dir = tempfile::tempdir().unwrap();
    let mut writer = OciDirWriter::new(dir.path()).unwrap();
    assert!(writer.blob(&one.descriptor(), &mut bad.as_slice()).is_err());
    assert_eq!(
        std::fs::read_dir(dir.path().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    assert!(writer.finish(vec![one.descriptor()]).is_err());
}

/// Runs skopeo, which reads and writes both kinds of archive; `false` where it is not installed.
fn skopeo(args: &[&str]) -> bool {
    let Ok(output) = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(args)
        .output()
    else {
        return false;
    };
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

#[test]
fn another_program_reads_and_writes_the_same_archives() {
    let one = image("one");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("saved.tar"), saved(&one, "example.com/one:1")).unwrap();
    let docker = format!("docker-archive:{}", at("saved.tar"));
    let oci = format!("oci:{}:tag", at("layout"));
    if !skopeo(&["copy", &docker, &oci]) {
        return;
    }
    assert!(skopeo(&[
        "copy",
        &format!("oci-archive:{}:1", at("saved.tar")),
        &format!("oci:{}", at("second"))
    ]));
    let Archive::Oci(layout) = Archive::open(dir.path().join("layout").as_ref()).unwrap() else {
        panic!()
    };
    let entry = layout.named("tag").next().unwrap();
    let Manifest::Image(manifest) = layout.manifest(entry).unwrap() else {
        panic!()
    };
    assert_eq!(manifest.value.layers.len(), 1);
    let old = format!("docker-archive:{}:example.com/one:2", at("old.tar"));
    assert!(skopeo(&["copy", &oci, &old]));
    let Archive::Docker(archive) = Archive::open(dir.path().join("old.tar").as_ref()).unwrap()
    else {
        panic!()
    };
    let [found] = archive.images() else { panic!() };
    assert_eq!(found.names[0].to_string(), "example.com/one:2");
    let mut layer = Vec::new();
    archive
        .layer(&found.layers[0])
        .unwrap()
        .read_to_end(&mut layer)
        .unwrap();
    assert_eq!(layer, one.layer);
}
