//! One `--output`, as it is written.

use std::collections::BTreeMap;

use kiln_engine::{
    Annotations, ArchiveForm, Compression, Dest, LayerForm, Output, OutputKind, Reference,
    USUAL_LAYERS,
};

/// Why an annotation of a manifest's descriptor is refused.
pub(super) const NO_ENTRY: &str = "only the index of an archive describes manifests: write type=oci or \
                        type=docker with dest=FILE";

/// The file of `dest=`, or standard output.
fn dest(text: &str) -> Dest {
    match text {
        "-" => Dest::Stream,
        path => Dest::File(path.into()),
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
            "`{text}` is not a compression: gzip, zstd or uncompressed"
        )),
    }
}

/// Reads one `--output`.
pub(super) fn parse(text: &str) -> Result<Output, String> {
    let fields = split_fields(text)?;
    let plain = |kind| Ok(Output::new(kind));
    if let [only] = fields.as_slice()
        && !only.contains('=')
    {
        return match only.as_str() {
            "" => Err("it is empty".into()),
            "-" => plain(OutputKind::Tar(Dest::Stream)),
            path => plain(OutputKind::Local(path.into())),
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
    let mut pushed_layers = None;
    if is_image {
        values.remove("push");
        pushed_layers = layer_form(&mut values)?;
    }
    let kind = match kind {
        // Pushed or not, the image is in the store as well.
        "image" | "registry" => OutputKind::Image(names(&mut values)?),
        "oci" => archive(ArchiveForm::Oci, to, &mut values)?,
        // Without a file it is for the local store of images, which is kiln's own.
        "docker" if to.is_none() => OutputKind::Image(names(&mut values)?),
        "docker" => archive(ArchiveForm::Docker, to, &mut values)?,
        "local" => match to {
            None => return Err("it needs dest=DIRECTORY".into()),
            Some("-") => {
                return Err("a directory cannot go to standard output; use type=tar".into());
            }
            Some(to) => OutputKind::Local(to.into()),
        },
        "tar" => OutputKind::Tar(to.map_or(Dest::Stream, dest)),
        "cacheonly" => OutputKind::CacheOnly,
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
        pushed_layers,
    })
}

fn names(values: &mut BTreeMap<&str, &str>) -> Result<Vec<Reference>, String> {
    let text = values.remove("name").unwrap_or_default();
    text.split(',')
        .filter(|n| !n.is_empty())
        .map(|n| Reference::parse_new(n).map_err(|e| format!("name `{n}`: {e}")))
        .collect()
}

/// Takes out what is said of layers; `None` if nothing is.
fn layer_form(values: &mut BTreeMap<&str, &str>) -> Result<Option<LayerForm>, String> {
    let before = values.len();
    let mut layers = USUAL_LAYERS;
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
    let said = values.len() < before;
    if let Some(text) = values.remove("oci-mediatypes")
        && !switch("oci-mediatypes", text)?
    {
        return Err("images are written with OCI's media types only".into());
    }
    Ok(said.then_some(layers))
}

fn archive(
    form: ArchiveForm,
    to: Option<&str>,
    values: &mut BTreeMap<&str, &str>,
) -> Result<OutputKind, String> {
    let names = names(values)?;
    let layers = layer_form(values)?.unwrap_or(USUAL_LAYERS);
    let directory = match values.remove("tar") {
        Some(text) => !switch("tar", text)?,
        None => false,
    };
    let dest = to.map_or(Dest::Stream, dest);
    if directory && (form == ArchiveForm::Docker || dest == Dest::Stream) {
        return Err("tar=false is for type=oci with dest=DIRECTORY".into());
    }
    Ok(OutputKind::Archive {
        form,
        layers,
        names,
        dest,
        directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> OutputKind {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).kind
    }

    #[test]
    fn options_say_what_is_written_where() {
        let file = |p: &str| Dest::File(p.into());
        assert_eq!(kind("out"), OutputKind::Local("out".into()));
        assert_eq!(kind("-"), OutputKind::Tar(Dest::Stream));
        assert_eq!(kind("type=local,dest=a b"), OutputKind::Local("a b".into()));
        assert_eq!(kind("type=tar"), OutputKind::Tar(Dest::Stream));
        assert_eq!(
            kind("\"type=tar\",\"dest=a,b\""),
            OutputKind::Tar(file("a,b"))
        );
        assert_eq!(kind("type=cacheonly"), OutputKind::CacheOnly);
        assert_eq!(kind("type=docker"), OutputKind::Image(vec![]));
        for (text, push) in [
            ("type=image", false),
            ("type=image,push=true", true),
            ("type=registry", true),
            ("type=registry,push=false", false),
            ("type=docker,push=1", true),
        ] {
            let output = parse(text).unwrap();
            assert_eq!(
                (output.kind, output.push),
                (OutputKind::Image(vec![]), push)
            );
        }
        for (text, compression, all) in [
            ("type=registry", None, false),
            ("type=registry,oci-mediatypes=true", None, false),
            (
                "type=registry,compression=zstd",
                Some(Compression::Zstd),
                false,
            ),
            (
                "type=image,push=1,force-compression=1",
                Some(Compression::Gzip),
                true,
            ),
        ] {
            let form = parse(text).unwrap().pushed_layers;
            assert_eq!(form.map(|f| f.compression), compression, "{text}");
            assert_eq!(form.is_some_and(|f| f.all), all, "{text}");
        }
        let names = ["a:1", "b:2"]
            .map(|n| Reference::parse(n).unwrap())
            .to_vec();
        assert_eq!(
            kind("type=image,\"name=a:1,b:2\",push=false"),
            OutputKind::Image(names.clone())
        );
        let layers = LayerForm {
            compression: Compression::Zstd,
            level: Some(9),
            all: true,
        };
        let wanted = OutputKind::Archive {
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
            "type=registry,compression=estargz",
            "type=registry,compression-level=10",
            "type=image,force-compression=maybe",
            "type=image,push=true,oci-mediatypes=false",
            "type=local,dest=x,compression=zstd",
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
            ("foo:a=b", false),
            ("a", false),
            ("=b", false),
        ] {
            assert_eq!(all.option(text).is_ok(), good, "{text}");
        }
        assert_eq!((all.manifest.len(), all.entry.len()), (3, 1));
    }
}
