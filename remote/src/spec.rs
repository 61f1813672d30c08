//! What `--cache-to` and `--cache-from` say: `type=registry,ref=…`, `type=local,dest=…`, `type=s3,…`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use kiln_image::{Compression, Reference};

/// Why a remote cannot be used as it is described.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);

/// How much is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The steps whose layers are in the result.
    #[default]
    Min,
    /// All steps, each as soon as it is finished.
    Max,
}

/// A remote cache, as people describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSpec {
    /// Where it is.
    pub kind: RemoteKind,
    /// How much is written.
    pub mode: Mode,
    /// How layers are compressed.
    pub compression: Compression,
    /// The level of that; none is the usual one.
    pub level: Option<i32>,
    /// Whether hosts wait for each other's steps; none is what suits the kind.
    pub single_flight: Option<bool>,
}

/// Where a remote cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// A repository of a registry. The tag tells caches in one repository apart.
    Registry {
        /// Repository and tag.
        reference: Reference,
    },
    /// A directory, perhaps of a network file system.
    Local {
        /// Its path.
        dir: PathBuf,
    },
    /// A bucket.
    S3(S3Spec),
}

/// A bucket of S3 or of a server that speaks like it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Spec {
    /// Its name.
    pub bucket: String,
    /// Its region; none is that of the settings (`AWS_REGION`).
    pub region: Option<String>,
    /// The server's address, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// The bucket is in the path of addresses and not in the host name. None: with an endpoint.
    pub path_style: Option<bool>,
    /// Credentials; without them those of the settings or the machine are used.
    pub access_key_id: Option<String>,
    /// Belongs to the access key.
    pub secret_access_key: Option<String>,
    /// Belongs to temporary credentials.
    pub session_token: Option<String>,
}

/// What buckets are opened with where their descriptions leave something open, under the names that variables have
/// for other tools, such as `AWS_REGION`. Values may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BucketSettings(pub BTreeMap<String, String>);

impl fmt::Debug for BucketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for S3Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Spec")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The fields of a description, each to be taken once.
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn parse(text: &str) -> Result<Self, SpecError> {
        let mut fields = BTreeMap::new();
        for (number, field) in text.split(',').enumerate() {
            // What it says is not repeated: it may be a part of a secret.
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| SpecError(format!("part {} is not NAME=VALUE", number + 1)))?;
            let name = name.trim().to_lowercase();
            if fields.insert(name.clone(), value.to_owned()).is_some() {
                return Err(SpecError(format!("`{name}` is given twice")));
            }
        }
        Ok(Self(fields))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn need(&mut self, kind: &str, name: &str) -> Result<String, SpecError> {
        self.take(name)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| SpecError(format!("type={kind} needs `{name}`")))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, SpecError> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(SpecError(format!("{name}=`{other}` is not true or false"))),
        }
    }

    fn end(self, kind: &str) -> Result<(), SpecError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(SpecError(format!("type={kind} knows no `{name}`"))),
        }
    }
}

impl RemoteSpec {
    /// Reads a description. A lone reference means `type=registry`. `writing` tells `--cache-to`
    /// from `--cache-from`: a directory is `dest` in the one and `src` in the other.
    ///
    /// # Errors
    /// A field is missing, unknown or malformed.
    pub fn parse(text: &str, writing: bool) -> Result<Self, SpecError> {
        Self::parse_for(text, writing, false)
    }

    /// The same for `--cache-mount-to` and `--cache-mount-from`, which know nothing but the place.
    ///
    /// # Errors
    /// A field is missing, unknown or malformed.
    pub fn parse_for_mounts(text: &str, writing: bool) -> Result<Self, SpecError> {
        Self::parse_for(text, writing, true)
    }

    /// Reads `type=inline`, for `--cache-to`; none if the description is of something else.
    pub fn parse_inline(text: &str) -> Option<Result<(), SpecError>> {
        let mut fields = Fields::parse(text).ok()?;
        if fields.take("type")? != "inline" {
            return None;
        }
        Some(match fields.take("mode").as_deref() {
            None | Some("min") => fields.end("inline"),
            Some(_) => Err(SpecError(
                "an image has the steps of its own layers: type=inline knows mode=min only".into(),
            )),
        })
    }

    fn parse_for(text: &str, writing: bool, mounts: bool) -> Result<Self, SpecError> {
        if !text.contains('=') {
            return Ok(Self::of(registry(text)?));
        }
        let mut fields = Fields::parse(text)?;
        let kind = match fields.take("type") {
            Some(kind) => kind,
            None if fields.0.contains_key("ref") => "registry".into(),
            None => {
                return Err(SpecError(
                    "a `type` is missing: registry, local or s3".into(),
                ));
            }
        };
        let place = match kind.as_str() {
            "registry" => registry(&fields.need(&kind, "ref")?)?,
            "local" => {
                let name = if writing { "dest" } else { "src" };
                let dir = PathBuf::from(fields.need(&kind, name)?);
                RemoteKind::Local { dir }
            }
            "s3" => RemoteKind::S3(S3Spec {
                bucket: checked("bucket", fields.need(&kind, "bucket")?)?,
                region: (fields.take("region"))
                    .map(|text| checked("region", text))
                    .transpose()?,
                endpoint: (fields.take("endpoint_url"))
                    .map(|text| endpoint(&text))
                    .transpose()?,
                prefix: fields.take("prefix").unwrap_or_default(),
                path_style: fields.flag("use_path_style")?,
                access_key_id: fields.take("access_key_id"),
                secret_access_key: fields.take("secret_access_key"),
                session_token: fields.take("session_token"),
            }),
            "inline" if writing && !mounts => {
                return Err(SpecError(
                    "type=inline belongs to one build: give it as --cache-to type=inline".into(),
                ));
            }
            "inline" => {
                return Err(SpecError(
                    "an image is named by type=registry,ref=IMAGE, or is an OCI layout of \
                     type=local; cache mounts are not inside of images"
                        .into(),
                ));
            }
            other => {
                let kinds = if writing && !mounts {
                    "registry, local, s3 or inline"
                } else {
                    "registry, local or s3"
                };
                let text = format!("type `{other}` is not known: {kinds}");
                return Err(SpecError(text));
            }
        };
        let mut spec = Self::of(place);
        if mounts {
            fields.end(&format!("{kind} for cache mounts"))?;
            return Ok(spec);
        }
        spec.single_flight = fields.flag("single-flight")?;
        if writing {
            spec.mode = match fields.take("mode").as_deref() {
                None | Some("min") => Mode::Min,
                Some("max") => Mode::Max,
                Some(other) => return Err(SpecError(format!("mode=`{other}` is not min or max"))),
            };
            spec.compression = match fields.take("compression").as_deref() {
                None | Some("zstd") => Compression::Zstd,
                Some("gzip") => Compression::Gzip,
                Some(other) => {
                    let text = format!("compression=`{other}` is not zstd or gzip");
                    return Err(SpecError(text));
                }
            };
            spec.level = match fields.take("compression-level") {
                None => None,
                Some(text) => Some(level(&text, spec.compression)?),
            };
        }
        fields.end(&kind)?;
        Ok(spec)
    }

    /// A description without what is secret in it, for messages.
    pub fn redacted(text: &str) -> String {
        let known = [
            "type", "ref", "mode", "src", "dest", "bucket", "region", "prefix",
        ];
        let parts = text.split(',').map(|part| match part.split_once('=') {
            Some((name, _)) if !known.contains(&name) => format!("{name}=…"),
            Some(_) => part.to_owned(),
            None if text.contains('=') => "…".to_owned(),
            None => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join(",")
    }

    fn of(kind: RemoteKind) -> Self {
        Self {
            kind,
            mode: Mode::default(),
            compression: Compression::Zstd,
            level: None,
            single_flight: None,
        }
    }

    /// What keeps caches in one place apart besides the namespace of the host.
    pub(crate) fn namespace(&self) -> &str {
        match &self.kind {
            RemoteKind::Registry { reference } => reference.tag().unwrap_or_default(),
            RemoteKind::Local { .. } | RemoteKind::S3(_) => "",
        }
    }
}

/// Checks what becomes a part of a server's name.
pub(crate) fn host_part(name: &str, text: &str) -> Result<(), SpecError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !text.is_empty() && text.len() <= 255 && text.chars().all(fits) {
        return Ok(());
    }
    let why = format!("`{name}` has letters, digits, dots and hyphens");
    Err(SpecError(why))
}

fn checked(name: &str, text: String) -> Result<String, SpecError> {
    host_part(name, &text).map(|()| text)
}

/// Reads the address of a server. What it says is not repeated: there may be a password in it.
pub(crate) fn endpoint(text: &str) -> Result<String, SpecError> {
    let wrong =
        || SpecError("`endpoint_url` is http:// or https:// with a host, nothing else".into());
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none();
    let fits = plain && url.query().is_none() && url.fragment().is_none();
    match url.scheme() {
        "http" | "https" if fits && url.has_host() => {
            Ok(url.as_str().trim_end_matches('/').to_owned())
        }
        _ => Err(wrong()),
    }
}

fn level(text: &str, compression: Compression) -> Result<i32, SpecError> {
    let range = if compression == Compression::Gzip {
        0..=9
    } else {
        1..=22
    };
    text.parse()
        .ok()
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            SpecError(format!("compression-level=`{text}` is not {from} to {to}"))
        })
}

fn registry(text: &str) -> Result<RemoteKind, SpecError> {
    let reference = Reference::parse(text).map_err(|e| SpecError(format!("ref `{text}`: {e}")))?;
    if reference.digest().is_some() {
        return Err(SpecError(format!("ref `{text}`: a cache has no digest")));
    }
    Ok(RemoteKind::Registry { reference })
}

impl fmt::Display for RemoteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RemoteKind::Registry { reference } => f.write_str(&reference.familiar()),
            RemoteKind::Local { dir } => dir.display().fmt(f),
            RemoteKind::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_and_what_people_see_of_them() {
        for (text, writing, shown, mode) in [
            (
                "cache.example/kiln",
                false,
                "cache.example/kiln:latest",
                Mode::Min,
            ),
            (
                "type=registry,ref=cache.example/kiln:main,mode=max",
                true,
                "cache.example/kiln:main",
                Mode::Max,
            ),
            (
                "ref=cache.example/kiln,single-flight=true",
                false,
                "cache.example/kiln:latest",
                Mode::Min,
            ),
            (
                "type=local,dest=/var/cache/kiln,compression=gzip,compression-level=9",
                true,
                "/var/cache/kiln",
                Mode::Min,
            ),
            (
                "type=local,src=/var/cache/kiln",
                false,
                "/var/cache/kiln",
                Mode::Min,
            ),
            (
                "type=s3,bucket=b,prefix=p,endpoint_url=http://127.0.0.1:9000,mode=min",
                true,
                "s3://b/p",
                Mode::Min,
            ),
        ] {
            let spec = RemoteSpec::parse(text, writing).unwrap();
            assert_eq!(
                (spec.to_string().as_str(), spec.mode),
                (shown, mode),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (text, writing, why) in [
            ("type=gha", true, "type `gha` is not known"),
            ("type=inline", true, "give it as --cache-to type=inline"),
            ("type=inline", false, "type=registry,ref=IMAGE"),
            ("mode=max", true, "a `type` is missing"),
            ("type=registry", true, "needs `ref`"),
            ("type=registry,ref=a,ref=b", true, "`ref` is given twice"),
            ("type=registry,ref=UPPER", true, "ref `UPPER`"),
            ("type=registry,ref=a,mode=most", true, "is not min or max"),
            ("type=registry,ref=a,mode=max", false, "knows no `mode`"),
            ("type=local,src=/x", true, "needs `dest`"),
            ("type=local,dest=/x", false, "needs `src`"),
            (
                "type=local,dest=/x,compression=lz4",
                true,
                "is not zstd or gzip",
            ),
            (
                "type=local,dest=/x,compression-level=99",
                true,
                "is not 1 to 22",
            ),
            (
                "type=s3,bucket=b,ignore-error=true",
                true,
                "knows no `ignore-error`",
            ),
            ("type=s3,bucket=a b", true, "`bucket` has letters"),
            ("type=s3,bucket=b,region=x/y", true, "`region` has letters"),
            (
                "type=s3,bucket=b,endpoint_url=http://[",
                true,
                "`endpoint_url` is http:// or",
            ),
            (
                "type=s3,bucket=b,endpoint_url=https://a:b@c",
                true,
                "`endpoint_url` is http:// or",
            ),
            (
                "type=s3,bucket=b,endpoint_url=nowhere",
                true,
                "`endpoint_url` is http:// or",
            ),
            (
                "type=s3,bucket=b,use_path_style=maybe",
                true,
                "is not true or false",
            ),
            ("type=local,dest", true, "part 2 is not NAME=VALUE"),
        ] {
            let error = RemoteSpec::parse(text, writing).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn for_cache_mounts_there_is_only_the_place() {
        for (text, writing) in [
            ("cache.example/kiln", true),
            ("type=registry,ref=cache.example/kiln:main", true),
            ("type=local,src=/var/cache/kiln", false),
            ("type=s3,bucket=b,prefix=p", true),
        ] {
            let spec = RemoteSpec::parse_for_mounts(text, writing).unwrap();
            assert_eq!(spec.kind, RemoteSpec::parse(text, writing).unwrap().kind);
        }
        for text in [
            "type=local,dest=/x,mode=max",
            "type=local,dest=/x,compression=gzip",
            "ref=a,single-flight=true",
        ] {
            let error = RemoteSpec::parse_for_mounts(text, true).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("for cache mounts knows no `"), "{error}");
        }
    }

    #[test]
    fn inside_of_an_image_there_is_nothing_to_choose() {
        for text in ["type=registry,ref=a", "cache.example/kiln", "inline"] {
            assert!(RemoteSpec::parse_inline(text).is_none(), "{text}");
        }
        for text in ["type=inline", "type=inline,mode=min"] {
            assert!(RemoteSpec::parse_inline(text).unwrap().is_ok(), "{text}");
        }
        for (text, why) in [
            ("type=inline,mode=max", "mode=min only"),
            ("type=inline,compression=zstd", "knows no `compression`"),
        ] {
            let error = RemoteSpec::parse_inline(text).unwrap().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn messages_hold_no_secrets() {
        for (text, shown) in [
            ("cache.example/kiln", "cache.example/kiln"),
            (
                "type=s3,bucket=b,secret_access_key=geheim,session_token=a,b",
                "type=s3,bucket=b,secret_access_key=…,session_token=…,…",
            ),
        ] {
            assert_eq!(RemoteSpec::redacted(text), shown);
        }
    }
}
