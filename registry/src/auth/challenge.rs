//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// The longest header that is looked at.
const MAX_HEADER: usize = 16 << 10;

/// How a server wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token from another server.
    Bearer {
        /// The address of the token server.
        realm: String,
        /// What the token server calls the registry.
        service: Option<String>,
        /// What the token must allow, parts separated by spaces.
        scope: Option<String>,
    },
}

/// The challenges of one header that are understood, in order.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > MAX_HEADER {
        return Vec::new();
    }
    let mut challenges = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let (parameters, after) = parameters(after);
        let find = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = find("realm")
        {
            let (service, scope) = (find("service"), find("scope"));
            challenges.push(Challenge::Bearer {
                realm,
                service,
                scope,
            });
        }
        // Whatever cannot be read ends the list.
        let after = after.trim_start_matches([' ', '\t', ',']);
        if after.len() >= rest.len() {
            break;
        }
        rest = after;
    }
    challenges
}

/// A word and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `key=value` pairs with commas between them, up to the next scheme.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let (key, after) = token(start);
        let Some(value) = after
            .trim_start()
            .strip_prefix('=')
            .filter(|_| !key.is_empty())
        else {
            return (found, rest);
        };
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => match quoted_string(quoted) {
                Some(parts) => parts,
                None => return (found, ""),
            },
            None => {
                let (value, after) = token(value);
                (value.to_owned(), after)
            }
        };
        found.push((key.to_ascii_lowercase(), value));
        rest = after;
    }
}

/// The text up to the closing quote, and what follows.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
#[path = "../../../fuzz/checks/challenge.rs"]
mod fuzzed;
#[cfg(test)]
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn headers_of_real_and_odd_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let cases = [
            (
                hub,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (r#"BEARER Realm="x""#, vec![bearer("x", None, None)]),
            (
                r#"Bearer realm=x , service = "y z""#,
                vec![bearer("x", Some("y z"), None)],
            ),
            (
                r#"Bearer realm="a\"b,c=d""#,
                vec![bearer("a\"b,c=d", None, None)],
            ),
            (
                r#"Basic realm="r", Bearer realm="x",service="s""#,
                vec![Challenge::Basic, bearer("x", Some("s"), None)],
            ),
            (r#"Negotiate, Basic realm="r""#, vec![Challenge::Basic]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="unterminated"#, vec![]),
            ("", vec![]),
            (",,, ", vec![]),
            ("=\"", vec![]),
            ("é", vec![]),
        ];
        for (header, expected) in cases {
            assert_eq!(parse(header), expected, "{header}");
        }
        assert!(parse(&format!("Bearer realm=\"{}\"", "x".repeat(MAX_HEADER))).is_empty());
    }

    #[test]
    fn the_corpus_of_fuzzing() {
        super::replay::replay("challenge", super::fuzzed::check);
    }
}
