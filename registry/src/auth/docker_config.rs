//! Docker's `config.json` and podman's `auth.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

use super::{Credential, CredentialSource};
use crate::credential_error::CredentialError;
use crate::notice::{Notice, Notices};

const MAX_SIZE: usize = 4 << 20;
/// Under this name Docker keeps the credentials for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which helpers mark identity tokens.
const TOKEN_USER: &str = "<token>";

/// What a credential helper printed.
#[derive(Debug, Clone, Default)]
pub struct HelperOutput {
    /// Whether it exited with status 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: Vec<u8>,
}

/// Runs credential helpers; the client itself starts no programs.
pub trait HelperRunner: Send + Sync {
    /// Runs `docker-credential-HELPER get` with `server` as its input. May block.
    ///
    /// # Errors
    /// When the program cannot be run.
    fn get(&self, helper: &str, server: &str) -> io::Result<HelperOutput>;
}

/// Credentials from Docker's configuration file.
#[derive(Clone, Default)]
pub struct DockerConfig {
    file: ConfigFile,
    runner: Option<Arc<dyn HelperRunner>>,
    /// Entries that somebody has been warned of.
    warned: Arc<Mutex<BTreeSet<String>>>,
    notices: Notices,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    /// Read when they are needed: a broken one is of no concern to who does not.
    auths: Option<BTreeMap<String, Value>>,
    cred_helpers: Option<BTreeMap<String, Value>>,
    creds_store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
struct HelperReply {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

impl DockerConfig {
    /// Reads the content of a configuration file.
    ///
    /// # Errors
    /// When it is too large or not the JSON that `docker login` writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, CredentialError> {
        if bytes.len() > MAX_SIZE {
            return Err(CredentialError::TooLarge(MAX_SIZE));
        }
        let failed = |e: serde_json::Error| CredentialError::Json {
            line: e.line(),
            column: e.column(),
        };
        // As Docker reads it: an empty file says nothing.
        let file = match bytes.trim_ascii() {
            [] => ConfigFile::default(),
            bytes => serde_json::from_slice(bytes).map_err(failed)?,
        };
        Ok(Self {
            file,
            ..Self::default()
        })
    }

    /// Says where goes what users should know.
    #[must_use]
    pub fn with_notices(mut self, notices: Notices) -> Self {
        self.notices = notices;
        self
    }

    /// Lets credential helpers be run; without this, they are not asked.
    #[must_use]
    pub fn with_helpers(mut self, runner: Arc<dyn HelperRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    fn ask_helper(
        &self,
        helper: &str,
        server: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(runner) = &self.runner else {
            return Ok(None);
        };
        // The name becomes part of a program's name.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if helper.is_empty() || helper.starts_with(['-', '.']) || !helper.chars().all(plain) {
            return Err(CredentialError::HelperName(
                helper.chars().take(60).collect(),
            ));
        }
        let failed = |problem: String| CredentialError::Helper {
            helper: helper.into(),
            problem,
        };
        let output = runner
            .get(helper, server)
            .map_err(|source| CredentialError::HelperRun {
                helper: helper.into(),
                source,
            })?;
        if !output.success {
            let text = String::from_utf8_lossy(&output.stdout);
            // The protocol has no status for this; all helpers print this sentence.
            if text.contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(text.trim().chars().take(200).collect()));
        }
        // Neither the output nor the parser's message may be shown: they could hold the secret.
        let reply: HelperReply = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed("its answer is not valid".into()))?;
        Ok(if reply.secret.is_empty() {
            None
        } else if reply.username == TOKEN_USER {
            Some(Credential::Identity {
                token: reply.secret,
            })
        } else {
            Some(Credential::Basic {
                username: reply.username,
                password: reply.secret,
            })
        })
    }

    fn look_up(&self, registry: &str, repository: &str) -> Option<Credential> {
        let full = format!("{registry}/{repository}");
        // Podman also keeps credentials for namespaces; the longest key that fits counts.
        let best = self
            .file
            .auths
            .iter()
            .flatten()
            .filter(|(key, _)| {
                let key = normalise(key);
                full == key
                    || full
                        .strip_prefix(&key)
                        .is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|(key, _)| normalise(key).len());
        let (key, entry) = best?;
        let read =
            AuthEntry::deserialize(entry).map_err(|_| "it is not an entry of `docker login`");
        match read.and_then(|entry| entry.credential()) {
            Ok(credential) => credential,
            Err(why) => {
                self.warn(key, why);
                None
            }
        }
    }

    /// Says once that an entry is not used; as with Docker, the registry is asked without it.
    fn warn(&self, key: &str, why: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(key.to_owned()) {
            let key: String = key.chars().take(200).collect();
            self.notices.send(Notice::CredentialUnused {
                entry: key,
                cause: why.to_owned(),
            });
        }
    }
}

impl CredentialSource for DockerConfig {
    fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let server = if normalise(registry) == "docker.io" {
            HUB_KEY
        } else {
            registry
        };
        let own = self.file.cred_helpers.iter().flatten();
        let mut own = own.filter(|(key, _)| normalise(key) == normalise(registry));
        match own.next() {
            None => {}
            // An empty name means the file itself, whatever store there is for the others.
            Some((_, Value::String(helper))) if helper.is_empty() => {
                return Ok(self.look_up(&normalise(registry), repository));
            }
            Some((_, Value::String(helper))) => return self.ask_helper(helper, server),
            Some((key, _)) => self.warn(key, "the name of its credential helper is not text"),
        }
        if let Some(store) = self
            .file
            .creds_store
            .as_deref()
            .filter(|store| !store.is_empty())
            && let Some(found) = self.ask_helper(store, server)?
        {
            return Ok(Some(found));
        }
        Ok(self.look_up(&normalise(registry), repository))
    }
}

impl AuthEntry {
    /// What the entry holds, if anything; or why it is of no use, without a word of it.
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        fn set(text: &Option<String>) -> Option<&str> {
            text.as_deref().filter(|text| !text.is_empty())
        }
        let login = match (set(&self.auth), set(&self.username), set(&self.password)) {
            (Some(auth), ..) => Some(decode(auth)?),
            (None, Some(username), Some(password)) => Some(Credential::Basic {
                username: username.into(),
                password: password.into(),
            }),
            // With a credential store, Docker leaves empty entries behind.
            _ => None,
        };
        let token = match (set(&self.registrytoken), set(&self.identitytoken)) {
            (Some(token), _) => Some(Credential::Registry {
                token: token.into(),
            }),
            (None, Some(token)) => Some(Credential::Identity {
                token: token.into(),
            }),
            (None, None) => None,
        };
        Ok(match (token, login) {
            (Some(token), Some(login)) => Some(Credential::Either {
                token: Box::new(token),
                login: Box::new(login),
            }),
            (token, login) => token.or(login),
        })
    }
}

/// User name and password of an `auth` field.
fn decode(auth: &str) -> Result<Credential, &'static str> {
    // Go's decoder, and so Docker, passes over line breaks, which `base64` puts into long lines.
    let plain: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(plain)
        .map_err(|_| "its `auth` is not base64")?;
    let text = String::from_utf8(decoded).map_err(|_| "its `auth` holds no text")?;
    match text.split_once(':') {
        Some((username, password)) if !username.is_empty() => Ok(Credential::Basic {
            username: username.into(),
            password: password.trim_matches('\0').into(),
        }),
        _ => Err("its `auth` holds no user name and password"),
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let auths: Vec<_> = self.file.auths.iter().flat_map(BTreeMap::keys).collect();
        f.debug_struct("DockerConfig")
            .field("auths", &auths)
            .finish_non_exhaustive()
    }
}

/// A key without scheme and API version, with Docker Hub's names made one.
fn normalise(key: &str) -> String {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    let (host, path) = key.split_at(key.find('/').unwrap_or(key.len()));
    match host {
        "index.docker.io" | "registry-1.docker.io" => format!("docker.io{path}"),
        _ => key.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: username.into(),
            password: password.into(),
        })
    }

    struct Fixed;
    impl HelperRunner for Fixed {
        fn get(&self, helper: &str, server: &str) -> io::Result<HelperOutput> {
            let (success, text) = match (helper, server) {
                ("gcloud", "gcr.io") => (
                    true,
                    r#"{"ServerURL":"gcr.io","Username":"u","Secret":"p"}"#,
                ),
                ("acr", _) => (true, r#"{"Username":"<token>","Secret":"t"}"#),
                ("store", HUB_KEY) => (true, r#"{"Username":"hub","Secret":"s"}"#),
                ("store", _) => (false, "credentials not found in native keychain\n"),
                ("broken", _) => (true, "{secret}"),
                ("failing", _) => (false, "no keyring"),
                _ => return Err(io::ErrorKind::NotFound.into()),
            };
            Ok(HelperOutput {
                success,
                stdout: text.into(),
            })
        }
    }

    #[test]
    fn entries_are_found() {
        // The strings are `user:pass`, `hub:secret`, `ns:x` and `colon:a:b` in base64.
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
            "reg.example:5000":{"auth":"dXNlcjpwYXNz"},
            "https://old.example/v2/":{"username":"u","password":"p"},
            "quay.io/team":{"auth":"bnM6eA=="},
            "quay.io":{"auth":"Y29sb246YTpi"},
            "acr.example":{"auth":"dXNlcjpwYXNz","identitytoken":"refresh"},
            "raw.example":{"registrytoken":"tok"},
            "empty.example":{}
        }}"#;
        let config = DockerConfig::parse(json.as_bytes()).unwrap();
        for (registry, repository, expected) in [
            ("docker.io", "library/x", basic("hub", "secret")),
            ("reg.example:5000", "a", basic("user", "pass")),
            ("reg.example", "a", None),
            ("old.example", "a", basic("u", "p")),
            ("quay.io", "team/app", basic("ns", "x")),
            ("quay.io", "teams/app", basic("colon", "a:b")),
            (
                "acr.example",
                "a",
                Some(Credential::Either {
                    token: Box::new(Credential::Identity {
                        token: "refresh".into(),
                    }),
                    login: Box::new(basic("user", "pass").unwrap()),
                }),
            ),
            (
                "raw.example",
                "a",
                Some(Credential::Registry {
                    token: "tok".into(),
                }),
            ),
            ("empty.example", "a", None),
            ("none.example", "a", None),
        ] {
            assert_eq!(
                config.credential(registry, repository).unwrap(),
                expected,
                "{registry}"
            );
        }
        assert!(
            !format!("{config:?} {:?}", config.credential("docker.io", "x")).contains("secret")
        );
    }

    /// Forms that are found in the wild, and what Docker makes of them.
    #[test]
    fn entries_of_all_kinds_are_read_as_docker_reads_them() {
        let pair = || basic("user", "pass");
        let either = |token| {
            Some(Credential::Either {
                token: Box::new(token),
                login: Box::new(pair().unwrap()),
            })
        };
        let registry = || Credential::Registry { token: "r".into() };
        let identity = || Credential::Identity { token: "i".into() };
        // In base64: `user:pass` with NULs behind, `:pass`, `userpass`, bytes that are no text.
        for (entry, expected) in [
            (r#"{"auth":"dXNl\ncjpw\r\nYXNz\n"}"#, pair()),
            (r#"{"auth":"dXNlcjpwYXNzAA=="}"#, pair()),
            (r#"{"auth":"dXNlcjpwYXNzAAAA"}"#, pair()),
            (r#"{"auth":"dXNlcjo="}"#, basic("user", "")),
            (
                r#"{"auth":"dXNlcjpwYXNz","username":"x","password":"y"}"#,
                pair(),
            ),
            (r#"{"auth":"","username":"user","password":"pass"}"#, pair()),
            (
                r#"{"auth":"dXNlcjpwYXNz","email":"a@b","extra":[1]}"#,
                pair(),
            ),
            (
                r#"{"auth":"dXNlcjpwYXNz","registrytoken":"r"}"#,
                either(registry()),
            ),
            (
                r#"{"auth":"dXNlcjpwYXNz","identitytoken":"i"}"#,
                either(identity()),
            ),
            (
                r#"{"username":"user","password":"pass","registrytoken":"r"}"#,
                either(registry()),
            ),
            (
                r#"{"registrytoken":"r","identitytoken":"i"}"#,
                Some(registry()),
            ),
            (r#"{"username":"user"}"#, None),
            (r#"{"auth":null}"#, None),
            // Asked without, and said.
            (r#"{"auth":"dXNlcjpwYXN"}"#, None),
            (r#"{"auth":"dXNlcnBhc3M="}"#, None),
            (r#"{"auth":"OnBhc3M="}"#, None),
            (
                r#"{"auth":"%%%","username":"user","password":"pass"}"#,
                None,
            ),
            (r#"{"auth":"dXNl cjpwYXNz"}"#, None),
            (r#"{"auth":"//86/w=="}"#, None),
            (r#"{"auth":7}"#, None),
            (r#""dXNlcjpwYXNz""#, None),
            ("null", None),
            ("[]", None),
        ] {
            let json = format!(
                r#"{{"auths":{{"a.example":{entry},"b.example":{{"auth":"dXNlcjpwYXNz"}}}},
                "credHelpers":{{"x.example":1}}}}"#
            );
            let config = DockerConfig::parse(json.as_bytes()).unwrap();
            assert_eq!(
                config.credential("a.example", "x").unwrap(),
                expected,
                "{entry}"
            );
            assert_eq!(
                config.credential("b.example", "x").unwrap(),
                pair(),
                "{entry}"
            );
            assert_eq!(config.credential("x.example", "x").unwrap(), None);
        }
    }

    #[test]
    fn helpers_are_asked() {
        let json = r#"{"credHelpers":{"gcr.io":"gcloud","acr.example":"acr","b.example":"broken",
            "f.example":"failing","m.example":"missing","evil.example":"../../bin/sh",
            "https://index.docker.io/v1/":""},
            "credsStore":"store","auths":{"file.example":{"auth":"dXNlcjpwYXNz"},
            "docker.io":{"auth":"dXNlcjpwYXNz"}}}"#;
        let without = DockerConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(without.credential("gcr.io", "a").unwrap(), None);
        let config = without.with_helpers(Arc::new(Fixed));
        for (registry, expected) in [
            ("gcr.io", basic("u", "p")),
            (
                "acr.example",
                Some(Credential::Identity { token: "t".into() }),
            ),
            // Not from the store, which has another.
            ("docker.io", basic("user", "pass")),
            ("file.example", basic("user", "pass")),
            ("other.example", None),
        ] {
            assert_eq!(
                config.credential(registry, "a").unwrap(),
                expected,
                "{registry}"
            );
        }
        for registry in ["b.example", "f.example", "m.example", "evil.example"] {
            let error = config.credential(registry, "a").unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn broken_files_are_refused() {
        for bad in [
            "nonsense",
            "{\"auths\":[]}",
            "{\"credsStore\":1}",
            "{\"auths\":\"secret\"}",
        ] {
            let error = DockerConfig::parse(bad.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(DockerConfig::parse(&vec![b' '; MAX_SIZE + 1]).is_err());
        for fine in [
            "",
            " \n",
            "{}",
            "{\"auths\":null,\"credHelpers\":null,\"HttpHeaders\":{}}",
        ] {
            let config = DockerConfig::parse(fine.as_bytes()).unwrap();
            assert_eq!(config.credential("docker.io", "a").unwrap(), None);
        }
    }
}
