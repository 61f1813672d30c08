//! One image with what is hard to carry, in every form that kiln writes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::registry::Registry;
use crate::shell::Run;

/// How readers are handed an image or a tar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A directory in the OCI layout.
    Layout,
    /// The layout as a tar.
    OciArchive,
    /// What `docker load` takes.
    DockerArchive,
    /// A name in a registry that speaks plain HTTP.
    Registry,
    /// A tar of all files, or the tar of a layer.
    Tar,
    /// A layer, compressed with gzip.
    GzipLayer,
    /// A layer, compressed with zstd.
    ZstdLayer,
}

/// Where a sample is.
pub(crate) enum Place {
    File(PathBuf),
    Registry(String),
}

pub(crate) struct Sample {
    /// As the page calls it.
    pub(crate) title: &'static str,
    pub(crate) form: Form,
    pub(crate) place: Place,
    /// Whether all files of the image are in it.
    pub(crate) whole: bool,
}

pub(crate) struct Samples {
    pub(crate) all: Vec<Sample>,
    pub(crate) kiln: String,
    /// The storage directory of the registry.
    pub(crate) storage: PathBuf,
    /// It serves as long as this lives.
    pub(crate) registry: Registry,
}

/// The image's name in layouts and archives; scripts of readers name it, too.
const NAME: &str = "kiln-compatibility:x";

const DOCKERFILE: &str = r#"FROM scratch
COPY --chmod=755 busybox /bin/busybox
COPY files /c/
COPY --chown=3000000:3000000 files/plain /c/subordinate
COPY --chown=2000000000:2000000000 files/plain /c/highest
RUN ["/bin/busybox", "sh", "-euc", "cd /c; b=/bin/busybox; $b ln one two; $b chown 7:7 one; $b ln lower upper; $b chmod 600 lower; $b rm -r gone replaced; $b mkdir replaced; echo new >replaced/new"]
"#;

/// The context: `$1` is its directory.
const CONTEXT: &str = r#"
mkdir -p "$1/files/replaced"; cd "$1"
cp "$(dpkg -L busybox-static | grep -m1 'bin/busybox$')" busybox
cd files
for name in plain precise one lower gone replaced/old "$(printf 'n%.0s' $(seq 120))" 'ünïcödé'; do echo text >"$name"; done
setfattr -n user.kiln -v value plain
touch -d '1960-01-01 00:00:00Z' old
touch -d '2001-02-03 04:05:06.123456789Z' precise
truncate -s 64M hole; echo end >>hole
"#;

impl Samples {
    /// Builds the image into `work` in all forms.
    pub(crate) fn write(kiln: &Path, work: &Path) -> Result<Self> {
        let context = work.join("context");
        Run::script(CONTEXT).arg(&context).run()?;
        std::fs::write(context.join("Dockerfile"), DOCKERFILE)?;
        let storage = work.join("registry");
        let registry = Registry::start(&storage, &work.join("registry-log"))?;
        let store = work.join("store");
        let mut all = Vec::new();
        let mut add = |title, form, place, whole| {
            all.push(Sample {
                title,
                form,
                place,
                whole,
            });
        };
        let image = Image {
            kiln,
            store: &store,
            context: &context,
        };
        let annotations = [
            "--annotation",
            "org.opencontainers.image.title=sample",
            "--annotation",
            "manifest-descriptor:org.opencontainers.image.vendor=kiln",
        ];
        let zstd = "compression=zstd,force-compression=true";
        for (title, name, words, options) in [
            ("OCI layout, gzip", "gzip", &[][..], "tar=false"),
            (
                "OCI layout, zstd",
                "zstd",
                &[][..],
                &*format!("tar=false,{zstd}"),
            ),
            (
                "OCI layout, annotations",
                "annotated",
                &annotations[..],
                "tar=false",
            ),
        ] {
            let path = work.join(name);
            let output = format!("type=oci,{options},dest={}", path.display());
            image.build(NAME, words, &output)?;
            add(title, Form::Layout, Place::File(path), true);
        }
        for (title, form, kind) in [
            ("OCI archive", Form::OciArchive, "oci"),
            ("Docker archive", Form::DockerArchive, "docker"),
            ("tar of all files", Form::Tar, "tar"),
        ] {
            let path = work.join(format!("{kind}.tar"));
            image.build(NAME, &[], &format!("type={kind},dest={}", path.display()))?;
            add(title, form, Place::File(path), true);
        }
        for (title, tag, output) in [
            ("registry, gzip", "gzip", "type=registry"),
            ("registry, zstd", "zstd", &*format!("type=registry,{zstd}")),
        ] {
            let name = format!("{}/compatibility:{tag}", registry.address());
            image.build(&name, &[], output)?;
            add(title, Form::Registry, Place::Registry(name), true);
        }
        for (title, form, layout) in [
            ("layer file, gzip", Form::GzipLayer, "gzip"),
            ("layer file, zstd", Form::ZstdLayer, "zstd"),
        ] {
            let path = second_layer(&work.join(layout))?;
            add(title, form, Place::File(path), false);
        }
        let version = Run::new(kiln).arg("--version").capture()?;
        Ok(Self {
            all,
            kiln: version.trim().to_owned(),
            storage,
            registry,
        })
    }
}

/// What is built, and with what.
struct Image<'a> {
    kiln: &'a Path,
    store: &'a Path,
    context: &'a Path,
}

impl Image<'_> {
    fn build(&self, name: &str, words: &[&str], output: &str) -> Result<()> {
        Run::new(self.kiln)
            .arg("--root")
            .arg(self.store)
            .args(["build", "-q", "-t", name])
            .args(words)
            .args(["-o", output])
            .arg(self.context)
            .capture()
            .map(drop)
    }
}

/// The file of the layer that has most of the content.
fn second_layer(layout: &Path) -> Result<PathBuf> {
    let read = |path: &Path| -> Result<serde_json::Value> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let blob = |digest: &serde_json::Value| {
        let digest = digest.as_str().unwrap_or_default();
        layout.join("blobs").join(digest.replacen(':', "/", 1))
    };
    let index = read(&layout.join("index.json"))?;
    let manifest = read(&blob(&index["manifests"][0]["digest"]))?;
    Ok(blob(&manifest["layers"][1]["digest"]))
}
