//! Platforms (`linux/arm64/v8`), their normal form, and which image runs where.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json::{no_text, nullable, some_text};

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three parts of letters, digits, `_`, `.` and `-`.
    #[error("platform `{0}` is not of the form os/architecture or os/architecture/variant")]
    Malformed(String),
    /// A single word that is neither an operating system nor an architecture.
    #[error("platform `{0}` is neither a known operating system nor a known architecture")]
    Unknown(String),
}

/// An operating system and processor that an image is for (OCI image index, "platform").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Processor architecture in Go's naming, such as `amd64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Operating system in Go's naming, such as `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub os_version: Option<String>,
    /// Features that the operating system must have, such as `win32k`.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the architecture, such as `v7`.
    #[serde(
        default,
        deserialize_with = "some_text",
        skip_serializing_if = "no_text"
    )]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform in normal form.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise_architecture(architecture, variant.unwrap_or(""));
        Self {
            architecture,
            os: normalise_os(os),
            os_version: None,
            os_features: Vec::new(),
            variant,
        }
    }

    /// The platform that this program runs on.
    #[must_use]
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// The same platform with the names that Docker would use.
    #[must_use]
    pub fn normalised(&self) -> Self {
        Self {
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            ..Self::new(&self.os, &self.architecture, self.variant.as_deref())
        }
    }

    /// How well an image for `candidate` serves on this platform: 0 is exact, larger is worse,
    /// `None` does not run.
    ///
    /// Older variants of one architecture run on newer ones, and 32-bit images on the 64-bit
    /// processors of the same family.
    #[must_use]
    pub fn rank(&self, candidate: &Self) -> Option<u32> {
        let (want, have) = (self.normalised(), candidate.normalised());
        if want.os != have.os {
            return None;
        }
        let version_ok = match (&want.os_version, &have.os_version) {
            // A Windows image runs on the build that it was made for.
            (Some(want), Some(have)) => build_of(want) == build_of(have),
            _ => true,
        };
        // What an image asks of the system, this one must have.
        if !version_ok
            || have
                .os_features
                .iter()
                .any(|f| !want.os_features.contains(f))
        {
            return None;
        }
        let (want_level, have_level) = (want.level()?, have.level()?);
        let same = |base: u32| {
            have_level
                .le(&want_level)
                .then(|| base + want_level - have_level)
        };
        match (want.architecture.as_str(), have.architecture.as_str()) {
            (a, b) if a == b => same(0),
            ("amd64", "386") => Some(1000),
            ("arm64", "arm") => (have_level <= 80).then(|| 1000 + 80 - have_level),
            _ => None,
        }
    }

    /// Whether an image for this platform runs on the wanted one.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        wanted.rank(self).is_some()
    }

    /// The variant as a number that grows with capability, in tenths (`v8.1` is 81).
    fn level(&self) -> Option<u32> {
        let default = match self.architecture.as_str() {
            "amd64" => "v1",
            "arm64" => "v8",
            "arm" => "v7",
            _ => "v0",
        };
        let text = self.variant.as_deref().unwrap_or(default);
        let Some(number) = text.strip_prefix('v') else {
            return Some(0); // an unknown naming scheme: all variants alike
        };
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        let (major, minor) = (major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
        (major < 1000 && minor < 10).then_some(major * 10 + minor)
    }
}

fn build_of(version: &str) -> Vec<&str> {
    version.split('.').take(3).collect()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

/// Bytes of a part of a platform.
const MAX_PART: usize = 64;

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || PlatformError::Malformed(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part.len() <= MAX_PART
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !parts.iter().all(valid) {
            return Err(malformed());
        }
        match parts.as_slice() {
            [word] if is_known_os(&normalise_os(word)) => Ok(Self {
                os: normalise_os(word),
                ..Self::host()
            }),
            [word] => {
                let platform = Self::new("linux", word, None);
                if is_known_architecture(&platform.architecture) {
                    Ok(platform)
                } else {
                    Err(PlatformError::Unknown((*word).into()))
                }
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => {
                let platform = Self::new(os, architecture, Some(variant));
                // It may have got a `v`.
                let length = platform.variant.as_ref().map_or(0, String::len);
                (length <= MAX_PART)
                    .then_some(platform)
                    .ok_or_else(malformed)
            }
            _ => Err(malformed()),
        }
    }
}

fn normalise_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

fn normalise_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let digits = variant.starts_with(|c: char| c.is_ascii_digit());
    let variant = if digits {
        format!("v{variant}")
    } else {
        variant
    };
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
        ("aarch64" | "arm64", "v8") => ("arm64", ""),
        ("aarch64" | "arm64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "") => ("arm", "v7"),
        ("powerpc64le", v) => ("ppc64le", v),
        ("loongarch64", v) => ("loong64", v),
        (other, v) => (other, v),
    };
    (
        architecture.into(),
        (!variant.is_empty()).then(|| variant.into()),
    )
}

fn is_known_os(os: &str) -> bool {
    matches!(
        os,
        "linux" | "windows" | "darwin" | "freebsd" | "netbsd" | "openbsd" | "wasip1"
    )
}

fn is_known_architecture(architecture: &str) -> bool {
    matches!(
        architecture,
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Descriptor;
    use crate::digest::Digest;

    #[test]
    fn parses_and_normalises() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/8.1", "linux/arm64/v8.1"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
            ("riscv64", "linux/riscv64"),
        ] {
            let platform: Platform = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(platform.to_string(), normal, "{text}");
            assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform);
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
        for bad in [
            "",
            "/",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/am d64",
            "toaster",
            "linux/é",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn picks_the_best_entry() {
        let entry = |text: &str| {
            let mut entry = Descriptor::new("m", Digest::of(text.as_bytes()), 1);
            entry.platform = Some(text.parse().unwrap());
            entry
        };
        let index: Vec<_> = [
            "linux/386",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/amd64",
            "linux/amd64/v2",
        ]
        .map(entry)
        .into();
        for (wanted, best) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64/v2")),
            ("linux/arm/v6", Some("linux/arm/v5")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm64", Some("linux/arm/v7")),
            ("linux/s390x", None),
            ("windows/amd64", None),
            ("linux/arm/v4", None),
        ] {
            let wanted: Platform = wanted.parse().unwrap();
            let found = wanted
                .best_match(&index)
                .map(|e| e.platform.clone().unwrap().to_string());
            assert_eq!(found.as_deref(), best, "{wanted}");
        }
        let mut special = entry("linux/amd64");
        special.platform.as_mut().unwrap().os_features = vec!["erofs".into()];
        let wanted: Platform = "linux/amd64".parse().unwrap();
        assert_eq!(wanted.best_match([&special]), None);
        let plain = entry("linux/386");
        assert_eq!(wanted.best_match([&special, &plain]), Some(&plain));
        let only32 = [entry("linux/386")];
        assert!(
            "linux/amd64"
                .parse::<Platform>()
                .unwrap()
                .best_match(&only32)
                .is_some()
        );
    }

    #[test]
    fn json_tolerates_nulls_and_keeps_the_order() {
        let json = r#"{"variant":"","os":"linux","architecture":"arm64","os.features":null}"#;
        let platform: Platform = serde_json::from_str(json).unwrap();
        let text = serde_json::to_string(&platform).unwrap();
        assert_eq!(text, r#"{"architecture":"arm64","os":"linux"}"#);
    }
}
