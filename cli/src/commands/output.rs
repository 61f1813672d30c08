//! `--output`: where a build's result goes.

mod dest;
mod push;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use kiln_executor::Engine;
use kiln_executor::export::{ArchiveForm, ArchiveTarget, Assembled, ExportImage, LayerForm};
use kiln_image::{Compression, Descriptor, Reference};
use tokio::runtime::Runtime;

use crate::errors::Failure;
use crate::ui;
use dest::dest;
pub(super) use dest::{Dest, refuse_terminal};

/// All of `--output` and `--annotation`.
#[derive(Debug)]
pub(crate) struct Outputs {
    list: Vec<Output>,
    annotations: Annotations,
    /// `type=docker` without a file is among them: the store, as in buildx.
    loads: bool,
}

/// One `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Output {
    kind: Kind,
    annotations: Annotations,
    /// The image is pushed under its names as well.
    push: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The store, under these names too.
    Image(Vec<Reference>),
    /// An archive, or a directory with an OCI layout.
    Archive {
        form: ArchiveForm,
        layers: LayerForm,
        names: Vec<Reference>,
        dest: Dest,
        directory: bool,
    },
    /// The files in a directory.
    Local(PathBuf),
    /// The files as a tar.
    Tar(Dest),
    /// Nowhere: the cache has it.
    CacheOnly,
}

/// Annotations of a manifest, and of its entry in the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Annotations {
    manifest: BTreeMap<String, String>,
    entry: BTreeMap<String, String>,
}

impl Annotations {
    /// Adds one. `place` is `manifest`, `manifest-descriptor` and so on, with an optional platform
    /// in brackets.
    fn add(&mut self, place: &str, key: &str, value: &str) -> Result<(), String> {
        let place = place.split('[').next().unwrap_or_default();
        if key.is_empty() {
            return Err("it has no name".into());
        }
        match place {
            "" | "manifest" => self.manifest.insert(key.to_owned(), value.to_owned()),
            "manifest-descriptor" => self.entry.insert(key.to_owned(), value.to_owned()),
            "index" | "index-descriptor" => {
                return Err("an image for one platform has no index to annotate".into());
            }
            other => return Err(format!("`{other}` cannot be annotated")),
        };
        Ok(())
    }

    /// `[PLACE:]NAME=VALUE`.
    fn option(&mut self, text: &str) -> Result<(), String> {
        let (key, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        let place = key.split_once(':').filter(|(place, _)| {
            let place = place.split('[').next().unwrap_or_default();
            [
                "manifest",
                "manifest-descriptor",
                "index",
                "index-descriptor",
            ]
            .contains(&place)
        });
        match place {
            Some((place, key)) => self.add(place, key, value),
            None => self.add("", key, value),
        }
    }

    fn with(&self, more: &Self) -> Self {
        let mut out = self.clone();
        out.manifest.extend(more.manifest.clone());
        out.entry.extend(more.entry.clone());
        out
    }
}

/// Takes comma-separated fields apart; a field may be in double quotes, which are doubled inside.
fn split_fields(text: &str) -> Result<Vec<String>, String> {
    let mut out = vec![String::new()];
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        let field = out.last_mut().ok_or("it is empty")?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => out.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        Err("a quote is not closed".into())
    } else {
        Ok(out)
    }
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{key}` is true or false, not `{value}`")),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::None),
        _ => Err(format!(
            "`{text}` is no compression: gzip, zstd or uncompressed"
        )),
    }
}

/// Reads one `--output`.
fn parse(text: &str) -> Result<Output, String> {
    let fields = split_fields(text)?;
    let plain = |kind| {
        Ok(Output {
            kind,
            annotations: Annotations::default(),
            push: false,
        })
    };
    if let [only] = fields.as_slice()
        && !only.contains('=')
    {
        return match only.as_str() {
            "" => Err("it is empty".into()),
            "-" => plain(Kind::Tar(Dest::Stdout)),
            path => plain(Kind::Local(path.into())),
        };
    }
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    let mut annotations = Annotations::default();
    for field in &fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("`{field}` is not NAME=VALUE"))?;
        if let Some(rest) = key.strip_prefix("annotation") {
            let (place, key) = rest.split_once('.').unwrap_or((rest, ""));
            annotations.add(place.trim_start_matches('-'), key, value)?;
        } else if values.insert(key, value).is_some() {
            return Err(format!("`{key}` is there twice"));
        }
    }
    let kind = values.remove("type").ok_or("it has no type")?;
    let to = values.remove("dest").filter(|d| !d.is_empty());
    let is_image = matches!(kind, "image" | "registry") || kind == "docker" && to.is_none();
    let push = match values.get("push").filter(|_| is_image) {
        Some(text) => switch("push", text)?,
        None => kind == "registry",
    };
    if is_image {
        values.remove("push");
    }
    let kind = match kind {
        // Pushed or not, the image is in the store as well.
        "image" | "registry" => Kind::Image(names(&mut values)?),
        "oci" => archive(ArchiveForm::Oci, to, &mut values)?,
        // Without a file it is for the local store of images, which is kiln's own.
        "docker" if to.is_none() => Kind::Image(names(&mut values)?),
        "docker" => archive(ArchiveForm::Docker, to, &mut values)?,
        "local" => match to {
            None => return Err("it needs dest=DIRECTORY".into()),
            Some("-") => {
                return Err("a directory cannot go to standard output; use type=tar".into());
            }
            Some(to) => Kind::Local(to.into()),
        },
        "tar" => Kind::Tar(to.map_or(Dest::Stdout, dest)),
        "cacheonly" => Kind::CacheOnly,
        other => {
            return Err(format!(
                "unknown type `{other}`: image, registry, oci, docker, local, tar or cacheonly"
            ));
        }
    };
    if let Some(key) = values.keys().next() {
        return Err(format!("`{key}` is not an option of this type"));
    }
    if !annotations.manifest.is_empty() && !kind.has_manifest() {
        return Err("files have no manifest to annotate".into());
    }
    if !annotations.entry.is_empty() && !kind.has_entry() {
        return Err(NO_ENTRY.into());
    }
    Ok(Output {
        kind,
        annotations,
        push,
    })
}

/// Why an annotation of a manifest's descriptor is refused.
const NO_ENTRY: &str = "only the index of an archive describes manifests: write type=oci or \
                        type=docker with dest=FILE";

fn names(values: &mut BTreeMap<&str, &str>) -> Result<Vec<Reference>, String> {
    let text = values.remove("name").unwrap_or_default();
    text.split(',')
        .filter(|n| !n.is_empty())
        .map(|n| Reference::parse(n).map_err(|e| format!("name `{n}`: {e}")))
        .collect()
}

fn archive(
    form: ArchiveForm,
    to: Option<&str>,
    values: &mut BTreeMap<&str, &str>,
) -> Result<Kind, String> {
    let names = names(values)?;
    let mut layers = LayerForm {
        compression: Compression::Gzip,
        level: None,
        all: false,
    };
    if let Some(text) = values.remove("compression") {
        layers.compression = compression(text)?;
    }
    if let Some(text) = values.remove("compression-level") {
        let range = match layers.compression {
            Compression::Gzip => 0..=9,
            Compression::Zstd => -7..=22,
            _ => return Err("nothing is compressed, so there is no compression-level".into()),
        };
        let level = text.parse().ok().filter(|level| range.contains(level));
        let (from, to) = (range.start(), range.end());
        layers.level = Some(
            level.ok_or_else(|| format!("compression-level is {from} to {to}, not `{text}`"))?,
        );
    }
    if let Some(text) = values.remove("force-compression") {
        layers.all = switch("force-compression", text)?;
    }
    if let Some(text) = values.remove("oci-mediatypes")
        && !switch("oci-mediatypes", text)?
    {
        return Err("archives are written with OCI's media types only".into());
    }
    let directory = match values.remove("tar") {
        Some(text) => !switch("tar", text)?,
        None => false,
    };
    let dest = to.map_or(Dest::Stdout, dest);
    if directory && (form == ArchiveForm::Docker || dest == Dest::Stdout) {
        return Err("tar=false is for type=oci with dest=DIRECTORY".into());
    }
    Ok(Kind::Archive {
        form,
        layers,
        names,
        dest,
        directory,
    })
}

impl Kind {
    /// Whether it is an image, which has a manifest sooner or later.
    fn has_manifest(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Archive { .. })
    }

    /// Whether an index comes with it that describes the manifest.
    fn has_entry(&self) -> bool {
        matches!(self, Self::Archive { .. })
    }
}

impl Output {
    fn uses_stdout(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Tar(Dest::Stdout)
                | Kind::Archive {
                    dest: Dest::Stdout,
                    ..
                }
        )
    }
}

impl Outputs {
    /// Reads the options; `load` adds the store to the outputs, as `type=docker` does.
    pub(crate) fn parse(
        list: &[String],
        load: bool,
        annotations: &[String],
    ) -> Result<Self, Failure> {
        let mut all = Annotations::default();
        for text in annotations {
            all.option(text)
                .map_err(|why| Failure::usage(format!("--annotation `{text}`: {why}")))?;
        }
        let mut loads = false;
        let mut list = list
            .iter()
            .map(|text| {
                let output = parse(text)
                    .map_err(|why| Failure::usage(format!("--output `{text}`: {why}")))?;
                let is_docker = text.split(',').any(|field| field == "type=docker");
                loads |= is_docker && matches!(output.kind, Kind::Image(_));
                if output.uses_stdout() {
                    refuse_terminal("-o type=…,dest=FILE")?;
                }
                Ok(output)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        if list.iter().filter(|o| o.uses_stdout()).count() > 1 {
            return Err(Failure::usage(
                "only one --output can go to standard output",
            ));
        }
        // Without any output the image goes into the store anyway.
        let is_loaded = list.is_empty() || list.iter().any(|o| matches!(o.kind, Kind::Image(_)));
        if load && !is_loaded {
            list.push(Output {
                kind: Kind::Image(Vec::new()),
                annotations: Annotations::default(),
                push: false,
            });
        }
        let out = Self {
            list,
            annotations: all,
            loads,
        };
        if !out.annotations.manifest.is_empty() && !out.have_image() {
            return Err(Failure::usage(
                "--annotation: files have no manifest to annotate",
            ));
        }
        if !out.annotations.entry.is_empty() && !out.list.iter().any(|o| o.kind.has_entry()) {
            return Err(Failure::usage(format!("--annotation: {NO_ENTRY}")));
        }
        Ok(out)
    }

    /// Whether standard output is taken by an output.
    pub(crate) fn use_stdout(&self) -> bool {
        self.list.iter().any(Output::uses_stdout)
    }

    /// Says where the image went if standard output is a pipe or file that waits for an archive.
    pub(crate) fn tell_of_store(&self) {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned();
        let kind = stdout.and_then(|fd| Ok(File::from(fd).metadata()?.file_type()));
        if self.loads && !self.use_stdout() && kind.is_ok_and(|k| k.is_fifo() || k.is_file()) {
            ui::hint(
                "type=docker without dest puts the image into the store; type=docker,dest=- writes \
                 an archive to standard output",
            );
        }
    }

    /// Whether an image, with its config and its names, is kept anywhere.
    pub(crate) fn have_image(&self) -> bool {
        self.list.is_empty() || self.list.iter().any(|o| o.kind.has_manifest())
    }

    /// Whether one of them is made of the result's files, and not only of what is known of it.
    pub(crate) fn need_files(&self) -> bool {
        let made_of_files = |kind: &Kind| match kind {
            Kind::Archive { .. } | Kind::Local(_) | Kind::Tar(_) => true,
            Kind::Image(_) | Kind::CacheOnly => false,
        };
        self.list.iter().any(|o| made_of_files(&o.kind))
    }

    /// The names of `--output` itself, beside those of the build.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Reference> {
        self.list.iter().flat_map(|o| match &o.kind {
            Kind::Image(names) | Kind::Archive { names, .. } => names.as_slice(),
            _ => &[],
        })
    }

    /// Names the image and writes what was asked for. Without any output the image goes into the
    /// store. Gives the manifest that was written, of several archives that of the last; an image
    /// in the store has none before it is written somewhere.
    pub(crate) fn carry_out(
        &self,
        engine: &Engine,
        runtime: &Runtime,
        image: &Assembled,
        names: &[Reference],
    ) -> Result<Option<Descriptor>, Failure> {
        if self.list.is_empty() {
            keep(engine, image, names, &self.annotations)?;
            return Ok(None);
        }
        let mut manifest = None;
        for output in &self.list {
            let annotations = self.annotations.with(&output.annotations);
            match &output.kind {
                Kind::Image(own) => keep(engine, image, &[names, own].concat(), &annotations)?,
                Kind::Archive {
                    form,
                    layers,
                    names: own,
                    dest,
                    directory,
                } => {
                    let mut export = ExportImage::built(image, &[names, own].concat());
                    export.annotations = annotations.manifest;
                    export.entry_annotations = annotations.entry;
                    let write = |target| {
                        let work = engine.write_archive(vec![export], *form, Some(*layers), target);
                        Ok(runtime.block_on(work)?)
                    };
                    let written: Vec<Descriptor> = match dest {
                        Dest::File(path) if *directory => {
                            write(ArchiveTarget::Directory(path.clone()))?
                        }
                        dest => dest.write(|out| write(ArchiveTarget::Stream(out)))?,
                    };
                    manifest = written.into_iter().next();
                }
                Kind::Local(path) => {
                    runtime.block_on(engine.write_files(&image.layers, path, image.epoch))?;
                }
                Kind::Tar(dest) => dest.write(|out| {
                    Ok(runtime.block_on(engine.write_tar(&image.layers, out, image.epoch))?)
                })?,
                Kind::CacheOnly => {}
            }
        }
        Ok(manifest)
    }
}

/// Puts the image into the store under these names; without any it is kept nameless. Annotations
/// are kept in a manifest of the store, which goes along when the image is tagged or written.
fn keep(
    engine: &Engine,
    image: &Assembled,
    names: &[Reference],
    annotations: &Annotations,
) -> Result<(), Failure> {
    let manifest = if annotations.manifest.is_empty() {
        None
    } else {
        Some(engine.annotate(image, &annotations.manifest)?)
    };
    engine.name_image(&image.id, &image.config, names, manifest.as_ref())?;
    if names.is_empty() && manifest.is_some() && !engine.store().names_of(&image.id)?.is_empty() {
        ui::warning(
            "annotations are not kept: the store has this image under a name already; \
             give a name with -t",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).kind
    }

    #[test]
    fn options_say_what_is_written_where() {
        let file = |p: &str| Dest::File(p.into());
        assert_eq!(kind("out"), Kind::Local("out".into()));
        assert_eq!(kind("-"), Kind::Tar(Dest::Stdout));
        assert_eq!(kind("type=local,dest=a b"), Kind::Local("a b".into()));
        assert_eq!(kind("type=tar"), Kind::Tar(Dest::Stdout));
        assert_eq!(kind("\"type=tar\",\"dest=a,b\""), Kind::Tar(file("a,b")));
        assert_eq!(kind("type=cacheonly"), Kind::CacheOnly);
        assert_eq!(kind("type=docker"), Kind::Image(vec![]));
        for (text, push) in [
            ("type=image", false),
            ("type=image,push=true", true),
            ("type=registry", true),
            ("type=registry,push=false", false),
            ("type=docker,push=1", true),
        ] {
            let output = parse(text).unwrap();
            assert_eq!((output.kind, output.push), (Kind::Image(vec![]), push));
        }
        let names = ["a:1", "b:2"]
            .map(|n| Reference::parse(n).unwrap())
            .to_vec();
        assert_eq!(
            kind("type=image,\"name=a:1,b:2\",push=false"),
            Kind::Image(names.clone())
        );
        let layers = LayerForm {
            compression: Compression::Zstd,
            level: Some(9),
            all: true,
        };
        let wanted = Kind::Archive {
            form: ArchiveForm::Oci,
            layers,
            names: names[..1].to_vec(),
            dest: file("d"),
            directory: true,
        };
        let text = "type=oci,dest=d,tar=false,name=a:1,compression=zstd,compression-level=9";
        assert_eq!(kind(&format!("{text},force-compression=true")), wanted);
        let output = parse(
            "type=oci,annotation.a=1,annotation-manifest.b=2,annotation-manifest-descriptor.c=3",
        )
        .unwrap();
        assert_eq!(output.annotations.manifest.len(), 2);
        assert_eq!(output.annotations.entry["c"], "3");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "type=nonsense",
            "dest=x",
            "type=local",
            "type=local,dest=-",
            "type=oci,dest=x,compression=lzma",
            "type=oci,dest=x,compression-level=10",
            "type=oci,dest=x,compression=uncompressed,compression-level=1",
            "type=oci,dest=x,tar=maybe",
            "type=oci,tar=false",
            "type=docker,dest=x,tar=false",
            "type=tar,name=x",
            "type=tar,dest=a,dest=b",
            "type=image,name=A",
            "type=image,push=maybe",
            "type=tar,push=true",
            "type=oci,push=true,dest=x",
            "type=oci,annotation-index.a=b",
            "type=oci,annotation-other.a=b",
            "type=local,dest=x,annotation.a=b",
            "type=tar,annotation.a=b",
            "type=cacheonly,annotation-manifest.a=b",
            "type=image,annotation-manifest-descriptor.a=b",
            "type=oci,annotation=b",
            "type=\"tar",
            "\"type=tar",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let mut all = Annotations::default();
        for (text, good) in [
            ("a=b", true),
            ("manifest:c=d", true),
            ("manifest[linux/amd64]:c=d", true),
            ("manifest-descriptor:e=f", true),
            ("example.com:8080/x=y", true),
            ("index:a=b", false),
            ("a", false),
            ("=b", false),
        ] {
            assert_eq!(all.option(text).is_ok(), good, "{text}");
        }
        assert_eq!((all.manifest.len(), all.entry.len()), (3, 1));
    }

    #[test]
    fn annotations_need_an_output_that_has_their_place() {
        let parse = |outputs: &[&str], annotation: &str| {
            let outputs: Vec<String> = outputs.iter().map(ToString::to_string).collect();
            Outputs::parse(&outputs, false, &[annotation.into()]).is_ok()
        };
        let (archive, entry) = ("type=oci,dest=x", "manifest-descriptor:a=b");
        for (outputs, annotation, good) in [
            (&[][..], "a=b", true),
            (&["type=image", "type=local,dest=x"], "a=b", true),
            (&["type=local,dest=x"], "a=b", false),
            (&["type=cacheonly"], "a=b", false),
            (&[], entry, false),
            (&["type=image"], entry, false),
            (&[archive], entry, true),
            (&["type=image", archive], entry, true),
        ] {
            assert_eq!(parse(outputs, annotation), good, "{outputs:?} {annotation}");
        }
    }
}
