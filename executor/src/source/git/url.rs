//! Addresses of git repositories: `URL#ref:subdir`, `URL?ref=…&subdir=…`, `user@host:path`.
//!
//! What is accepted here is all that `git` is ever given, so everything that it would take for an
//! option or for a helper program is refused.

use url::Url;

/// A repository and what is wanted of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GitUrl {
    /// What `git` is told, without user and password of http addresses.
    pub(crate) remote: String,
    /// The scheme and host of the address with its user and password, and without them.
    pub(crate) login: Option<Login>,
    /// Branch, tag or commit; none is the remote's default branch.
    pub(crate) reference: Option<String>,
    /// Directory below the root of the repository, clean; empty is the root.
    pub(crate) subdir: String,
    /// The start of the commit that must be found.
    pub(crate) checksum: Option<String>,
    /// Whether `.git` stays, if the address says so.
    pub(crate) keep_git_dir: Option<bool>,
    /// Whether submodules are checked out.
    pub(crate) submodules: bool,
}

/// User and password of an address, which nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// `https://user:password@host/`.
    pub(crate) with: String,
    /// `https://host/`.
    pub(crate) without: String,
    /// Texts that must not be shown.
    pub(crate) secrets: Vec<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.without)
    }
}

impl std::fmt::Debug for GitUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "GitUrl({} {:?} `{}`)",
            self.remote, self.reference, self.subdir
        )
    }
}

/// Whether a word can be the name of a branch or tag, or a commit (git-check-ref-format).
fn is_reference(word: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    !word.is_empty()
        && word.len() <= 1024
        && !word.starts_with(['-', '/', '.'])
        && !word.ends_with(['/', '.'])
        && !word.ends_with(".lock")
        && !word.contains("..")
        && !word.contains("@{")
        && !word.contains("//")
        && !word.contains(bad)
}

fn is_commit_prefix(word: &str) -> bool {
    (7..=64).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A directory below the repository's root.
fn clean_subdir(text: &str) -> Result<String, String> {
    // A query can have one that its address has not.
    if text.contains(|c: char| c.is_ascii_control()) {
        return Err("the directory contains a control character".into());
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                return Err(format!(
                    "the directory `{text}` leads out of the repository"
                ));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("`{key}` is true or false, not `{value}`")),
    }
}

impl GitUrl {
    /// Reads an address. The error is the reason, without the address.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains(|c: char| c.is_ascii_control()) {
            return Err("it contains a control character".into());
        }
        if text.starts_with('-') {
            return Err("it starts with `-`".into());
        }
        let (address, fragment) = match text.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (text, None),
        };
        let (address, query) = match address.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (address, None),
        };
        let (remote, login) = Self::remote(address)?;
        let mut out = Self {
            remote,
            login,
            reference: None,
            subdir: String::new(),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
        };
        if let Some(query) = query {
            out.query(query)?;
        }
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            if !reference.is_empty() {
                if out.reference.is_some() {
                    return Err("it names a reference both after `?` and after `#`".into());
                }
                out.reference = Some(reference.to_owned());
            }
            if !subdir.is_empty() {
                if !out.subdir.is_empty() {
                    return Err("it names a directory both after `?` and after `#`".into());
                }
                out.subdir = clean_subdir(subdir)?;
            }
        }
        match &out.reference {
            Some(word) if !is_reference(word) => {
                Err(format!("`{word}` cannot be a branch, tag or commit"))
            }
            _ => Ok(out),
        }
    }

    fn query(&mut self, query: &str) -> Result<(), String> {
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "ref" | "branch" | "tag" if self.reference.is_some() => {
                    return Err("it names two references".into());
                }
                "ref" => self.reference = Some(value.into_owned()),
                "branch" => self.reference = Some(format!("refs/heads/{value}")),
                "tag" => self.reference = Some(format!("refs/tags/{value}")),
                "subdir" => self.subdir = clean_subdir(&value)?,
                "checksum" | "commit" => self.checksum = Some(checksum(&value)?),
                "keep-git-dir" => self.keep_git_dir = Some(switch(&key, &value)?),
                "submodules" => self.submodules = switch(&key, &value)?,
                _ => return Err(format!("there is no parameter `{key}`")),
            }
        }
        Ok(())
    }

    /// What `git` is told, and the login that the address holds.
    fn remote(address: &str) -> Result<(String, Option<Login>), String> {
        let full = match address.strip_prefix("github.com/") {
            Some(_) => format!("https://{address}"),
            None => address.to_owned(),
        };
        let Some((scheme, _)) = full.split_once("://") else {
            return scp_form(&full).map(|()| (full, None));
        };
        if !matches!(scheme, "https" | "http" | "ssh" | "git") {
            return Err(format!("git repositories are not fetched by `{scheme}`"));
        }
        let mut url = Url::parse(&full).map_err(|e| e.to_string())?;
        let host = url.host_str().unwrap_or_default();
        // Programs that get a host as an argument would take it for an option.
        if host.is_empty() || host.starts_with('-') || url.username().starts_with('-') {
            return Err("it has no valid host".into());
        }
        if url.path().trim_start_matches('/').is_empty() {
            return Err("it has no path".into());
        }
        let secret = url.password().is_some() || matches!(scheme, "https" | "http");
        if !secret || (url.username().is_empty() && url.password().is_none()) {
            return Ok((full, None));
        }
        let mut secrets = vec![url.username().to_owned()];
        if let Some(password) = url.password() {
            secrets.insert(0, password.to_owned());
            secrets.insert(0, format!("{}:{password}", url.username()));
            let plain: String = percent_decoded(password);
            secrets.push(plain);
        }
        // Short names such as `git` are no secret, and removing them would garble messages.
        secrets.retain(|s| s.len() > 3);
        let mut base = url.clone();
        base.set_path("/");
        let with = base.to_string();
        let strip = |url: &mut Url, user: bool| {
            let done = url.set_password(None).is_ok() && (!user || url.set_username("").is_ok());
            if done {
                Ok(())
            } else {
                Err("it has no valid host".to_owned())
            }
        };
        if scheme == "ssh" {
            // ssh takes no passwords from addresses.
            strip(&mut url, false)?;
            return Ok((url.to_string(), None));
        }
        strip(&mut url, true)?;
        strip(&mut base, true)?;
        let login = Login {
            with,
            without: base.to_string(),
            secrets,
        };
        Ok((url.to_string(), Some(login)))
    }
}

fn percent_decoded(text: &str) -> String {
    // A form's `+` is no space here, so it is kept from being read as one.
    let quoted = text.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(quoted.as_bytes());
    pairs
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default()
}

/// The start of a commit, in lower case.
pub(crate) fn checksum(text: &str) -> Result<String, String> {
    if is_commit_prefix(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "the checksum `{text}` is not the start of a commit (7 to 64 hexadecimal digits)"
    ))
}

/// Whether a word is a whole commit.
pub(crate) fn is_commit(word: &str) -> bool {
    matches!(word.len(), 40 | 64) && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// `user@host:path`, which git hands to ssh.
fn scp_form(text: &str) -> Result<(), String> {
    let Some((login, path)) = text.split_once(':') else {
        return Err("it is not the address of a git repository".into());
    };
    let Some((user, host)) = login.split_once('@') else {
        return Err("it is not the address of a git repository".into());
    };
    let word = |w: &str| {
        !w.is_empty()
            && !w.starts_with('-')
            && w.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    // `ext::command` and its like start with a helper's name and two colons.
    if !word(user) || !word(host) || path.is_empty() || path.starts_with([':', '-']) {
        return Err("it is not the address of a git repository".into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "../../../../fuzz/checks/git_url.rs"]
mod fuzzed;
#[cfg(test)]
#[path = "../../../../fuzz/checks/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_is_wanted() {
        let full = "0123456789abcdef0123456789abcdef01234567";
        // Address; remote, reference, directory.
        let cases: &[(&str, &str, Option<&str>, &str)] = &[
            (
                "https://h.example/r.git",
                "https://h.example/r.git",
                None,
                "",
            ),
            (
                "https://h.example/r.git#main",
                "https://h.example/r.git",
                Some("main"),
                "",
            ),
            (
                "https://h.example/r.git#:docs/",
                "https://h.example/r.git",
                None,
                "docs",
            ),
            (
                "https://h.example/r.git#v1:a//b/.",
                "https://h.example/r.git",
                Some("v1"),
                "a/b",
            ),
            (
                "git@h.example:a/b.git#x",
                "git@h.example:a/b.git",
                Some("x"),
                "",
            ),
            (
                "ssh://git@h.example:22/a.git",
                "ssh://git@h.example:22/a.git",
                None,
                "",
            ),
            (
                "ssh://git:pw@h.example/a.git",
                "ssh://git@h.example/a.git",
                None,
                "",
            ),
            ("git://h.example/a", "git://h.example/a", None, ""),
            ("github.com/a/b", "https://github.com/a/b", None, ""),
            (
                "https://u:p@h.example/r.git",
                "https://h.example/r.git",
                None,
                "",
            ),
            (
                "https://h.example/r.git?branch=b&subdir=s",
                "https://h.example/r.git",
                Some("refs/heads/b"),
                "s",
            ),
            (
                "https://h.example/r.git?tag=v1",
                "https://h.example/r.git",
                Some("refs/tags/v1"),
                "",
            ),
            (
                &format!("https://h.example/r.git#{full}"),
                "https://h.example/r.git",
                Some(full),
                "",
            ),
        ];
        for (text, remote, reference, subdir) in cases {
            let url = GitUrl::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(url.remote, *remote, "{text}");
            assert_eq!(url.reference.as_deref(), *reference, "{text}");
            assert_eq!(url.subdir, *subdir, "{text}");
        }
        let url =
            GitUrl::parse("https://h/r.git?commit=ABCDEF0&keep-git-dir&submodules=false").unwrap();
        assert_eq!(url.checksum.as_deref(), Some("abcdef0"));
        assert_eq!((url.keep_git_dir, url.submodules), (Some(true), false));
    }

    #[test]
    fn what_git_would_misunderstand_is_refused() {
        for text in [
            "-oProxyCommand=x",
            "--upload-pack=x:y",
            "ext::sh -c true",
            "git@ext::sh",
            "fd::17",
            "file:///etc",
            "/srv/repo.git",
            "../repo.git",
            "https://h/r.git\n--upload-pack=x",
            "ssh://-oProxyCommand=x/r",
            "ssh://-x@h/r",
            "git@-host:path",
            "-u@host:path",
            "git@host:-path",
            "https://h/r.git#-x",
            "https://h/r.git#a..b",
            "https://h/r.git#a b",
            "https://h/r.git#main:../..",
            "https://h/r.git#main:a/../../b",
            "https://h/r.git?ref=--x",
            "https://h/r.git?subdir=../x",
            "https://h/r.git?subdir=x%0Ay",
            "https://h/r.git?branch=x%1By",
            "https://h/r.git?what=ever",
            "https://h/r.git?ref=a#b",
            "https://h/r.git?checksum=xyz",
            "https://h",
            "https:///r.git",
            "data://x/y",
        ] {
            assert!(GitUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn logins_are_kept_apart() {
        let url = GitUrl::parse("https://user:pa%2Bss@h.example:8443/r.git").unwrap();
        let login = url.login.clone().unwrap();
        assert_eq!(login.with, "https://user:pa%2Bss@h.example:8443/");
        assert_eq!(login.without, "https://h.example:8443/");
        for secret in ["user:pa%2Bss", "pa%2Bss", "pa+ss"] {
            assert!(login.secrets.iter().any(|s| s == secret), "{secret}");
        }
        assert!(!format!("{url:?} {login:?}").contains("pa%2Bss"));
    }

    #[test]
    fn the_corpus_of_fuzzing() {
        super::replay::replay("git_url", super::fuzzed::check);
    }
}
