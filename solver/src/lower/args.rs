//! Build arguments: global ones, predefined ones, and those of a stage.

use std::collections::BTreeMap;

use kiln_image::Platform;
use kiln_parser::{Kind, Lookup, Span};

use super::Request;
use super::budget::Budget;
use super::error::LowerError;
use crate::lint::description;

/// Arguments that every RUN sees if they are given, without being declared, and that are no part
/// of a key.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments that steer the build itself.
pub(super) const BUILTIN_ARGS: [&str; 7] = [
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
];

/// Arguments before the first stage.
#[derive(Debug)]
pub(super) struct Globals {
    /// Declared ones with their values.
    pub(super) declared: BTreeMap<String, Option<String>>,
    /// Platform arguments and those of the build itself.
    pub(super) predefined: BTreeMap<String, String>,
    /// Where the declared ones come from.
    pub(super) origins: BTreeMap<String, ArgOrigin>,
}

/// Where an argument before the first stage comes from.
#[derive(Debug)]
pub(super) struct ArgOrigin {
    /// Its instruction.
    pub(super) about: Span,
    /// What the comment above says.
    pub(super) description: Option<String>,
    /// Arguments that its default uses.
    pub(super) uses: Vec<String>,
}

/// `TARGETPLATFORM` and its like for one platform.
pub(super) fn platform_args(prefix: &str, p: &Platform, to: &mut BTreeMap<String, String>) {
    to.insert(format!("{prefix}PLATFORM"), p.to_string());
    to.insert(format!("{prefix}OS"), p.os.clone());
    to.insert(
        format!("{prefix}OSVERSION"),
        p.os_version.clone().unwrap_or_default(),
    );
    to.insert(format!("{prefix}ARCH"), p.architecture.clone());
    to.insert(
        format!("{prefix}VARIANT"),
        p.variant.clone().unwrap_or_default(),
    );
}

impl Globals {
    /// The arguments of a file when these values are given.
    pub(super) fn collect(
        request: &Request<'_>,
        given: &BTreeMap<String, String>,
        budget: &Budget,
    ) -> Result<Self, LowerError> {
        let mut predefined = BTreeMap::new();
        platform_args("BUILD", &request.build_platform, &mut predefined);
        platform_args("TARGET", &request.platform, &mut predefined);
        let mut backwards = request.dockerfile.instructions.iter().rev();
        let last = backwards.find_map(|i| match &i.kind {
            Kind::From { alias, .. } => Some(alias.as_ref().map(|a| a.value.to_lowercase())),
            _ => None,
        });
        let stage = request.target.clone().or_else(|| last.flatten());
        let stage = stage.unwrap_or_else(|| "default".into());
        predefined.insert("TARGETSTAGE".into(), stage);
        for (name, value) in &mut predefined {
            if let Some(given) = given.get(name) {
                value.clone_from(given);
            }
        }
        let mut globals = Self {
            declared: BTreeMap::new(),
            predefined,
            origins: BTreeMap::new(),
        };
        let escape = request.dockerfile.directives.escape;
        for instruction in &request.dockerfile.instructions {
            match &instruction.kind {
                Kind::From { .. } => break,
                Kind::Arg(list) => {
                    for arg in list {
                        let name = arg.name.value.clone();
                        let mut uses = Vec::new();
                        let value = match (given.get(&name), &arg.default) {
                            (Some(given), _) => Some(given.clone()),
                            (None, Some(default)) => {
                                let expanded =
                                    budget.word(&default.value, escape, &globals, default.span)?;
                                uses = expanded.used;
                                Some(expanded.text)
                            }
                            (None, None) => globals.predefined.get(&name).cloned(),
                        };
                        let origin = ArgOrigin {
                            about: instruction.span,
                            description: description(&instruction.comments, &name),
                            uses,
                        };
                        globals.origins.insert(name.clone(), origin);
                        globals.declared.insert(name, value);
                    }
                }
                _ => {}
            }
        }
        Ok(globals)
    }

    /// Every name that `FROM` may use.
    pub(super) fn names(&self) -> Vec<&str> {
        let names = self.declared.keys().chain(self.predefined.keys());
        names.map(String::as_str).collect()
    }
}

impl Lookup for Globals {
    fn get(&self, name: &str) -> Option<String> {
        match self.declared.get(name) {
            Some(value) => value.clone(),
            None => self.predefined.get(name).cloned(),
        }
    }
}
