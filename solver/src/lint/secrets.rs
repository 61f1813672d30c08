//! Secrets in `ARG` and `ENV`: by the name, and by the value.

use kiln_parser::{Span, Text};

use super::{At, Finding, Findings, Location, Rule};

/// A name with one of these words between underscores is that of a secret,
const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// unless one of these is in it too.
const PUBLIC_WORDS: [&str; 1] = ["public"];

/// Whether a name promises a secret.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let has = |list: &[&str]| name.split('_').any(|word| list.contains(&word));
    has(&SECRET_WORDS) && !has(&PUBLIC_WORDS)
}

/// BuildKit's rule: the name alone.
pub(crate) fn check_name(instruction: &str, name: &str, at: At, findings: &Findings) {
    if names_a_secret(name) {
        let detail = format!(
            "{instruction} `{name}` looks like a secret; use `RUN --mount=type=secret` instead"
        );
        findings.report(Rule::SecretsUsedInArgOrEnv, at, detail);
    }
}

/// What the characters of a token are.
#[derive(Clone, Copy)]
enum Body {
    /// Letters and digits.
    Alphanumeric,
    /// Capital letters and digits.
    Upper,
    /// Letters, digits, `-` and `_`.
    Url,
}

impl Body {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Url => byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_',
        }
    }
}

/// What it is, how it begins, what follows, and how many characters of that there are at least.
const TOKENS: [(&str, &str, Body, usize); 24] = [
    ("a GitHub token", "ghp_", Body::Alphanumeric, 36),
    ("a GitHub token", "gho_", Body::Alphanumeric, 36),
    ("a GitHub token", "ghu_", Body::Alphanumeric, 36),
    ("a GitHub token", "ghs_", Body::Alphanumeric, 36),
    ("a GitHub token", "ghr_", Body::Alphanumeric, 36),
    ("a GitHub token", "github_pat_", Body::Url, 50),
    ("a GitLab token", "glpat-", Body::Url, 20),
    ("an access key of AWS", "AKIA", Body::Upper, 16),
    ("an access key of AWS", "ASIA", Body::Upper, 16),
    ("an API key of Google", "AIza", Body::Url, 35),
    ("a token of Docker Hub", "dckr_pat_", Body::Url, 24),
    ("an npm token", "npm_", Body::Alphanumeric, 36),
    ("a PyPI token", "pypi-AgEIcHlwaS5vcmc", Body::Url, 50),
    ("a Slack token", "xoxb-", Body::Url, 24),
    ("a Slack token", "xoxp-", Body::Url, 24),
    ("a Slack token", "xoxa-", Body::Url, 24),
    ("a Slack token", "xoxs-", Body::Url, 24),
    ("a key of Stripe", "sk_live_", Body::Alphanumeric, 24),
    ("a key of Stripe", "rk_live_", Body::Alphanumeric, 24),
    ("a token of Hugging Face", "hf_", Body::Alphanumeric, 34),
    ("a token of DigitalOcean", "dop_v1_", Body::Alphanumeric, 64),
    ("a key of Anthropic", "sk-ant-", Body::Url, 40),
    ("a key of OpenAI", "sk-proj-", Body::Url, 40),
    ("a token of Vault", "hvs.", Body::Url, 24),
];

/// Real tokens are random; `ghp_xxxxxxxx...` is a placeholder.
const FEWEST_DIFFERENT: usize = 8;

/// What kind of secret is in a text, and where.
fn secret_in(text: &str) -> Option<(&'static str, usize, usize)> {
    if let Some(start) = text.find("-----BEGIN ") {
        let rest = text.get(start + 11..).unwrap_or_default();
        let title = rest.split("-----").next().unwrap_or_default();
        if title.ends_with("PRIVATE KEY") || title.ends_with("PRIVATE KEY BLOCK") {
            return Some(("a private key", start, text.len()));
        }
    }
    let found = |(kind, prefix, body, fewest): &(&'static str, &str, Body, usize)| {
        text.match_indices(prefix).find_map(|(start, _)| {
            // Inside a longer word the same letters mean nothing.
            let before = text.as_bytes().get(start.wrapping_sub(1));
            if before.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') {
                return None;
            }
            let tail = text.get(start + prefix.len()..)?;
            let length = tail.bytes().take_while(|b| body.has(*b)).count();
            let token = tail.get(..length)?;
            let exact = !matches!(body, Body::Upper) || length == *fewest;
            let different: std::collections::BTreeSet<u8> = token.bytes().collect();
            let real = length >= *fewest
                && exact
                && different.len() >= FEWEST_DIFFERENT
                && !token.to_lowercase().contains("example");
            real.then_some((*kind, start, start + prefix.len() + length))
        })
    };
    TOKENS.iter().find_map(found)
}

/// kiln's rule: the value itself has the form of a secret.
pub(super) fn check_value(
    instruction: &str,
    name: &str,
    value: &Text,
    spot: Location,
    findings: &Findings,
) {
    let Some((kind, start, end)) = secret_in(&value.value) else {
        return;
    };
    // Offsets in a text with continuation lines are not those of the source.
    let caret = if value.span.len() == value.value.len() {
        Span::new(value.span.start + start, value.span.start + end)
    } else {
        value.span
    };
    let at = spot.at(caret);
    findings.add(Finding {
        rule: Rule::KilnSecretValue,
        detail: format!(
            "the value of {instruction} `{name}` looks like {kind}; revoke it, and use \
             `RUN --mount=type=secret`"
        ),
        about: at.about,
        caret: at.caret,
        confidential: true,
    });
}

#[cfg(test)]
mod tests {
    use super::{names_a_secret, secret_in};

    #[test]
    fn names_of_secrets() {
        for (name, want) in [
            ("API_KEY", true),
            ("api_key", true),
            ("GITHUB_TOKEN", true),
            ("secret_MESSAGE", true),
            ("AUTH", true),
            ("FOO_AUTH_BAR", true),
            ("a_token_b", true),
            ("MY_APIKEY", true),
            ("PASSWD", true),
            ("MYAPIKEY", false),
            ("AUTHOR", false),
            ("MONKEY", false),
            ("PASSPHRASE", false),
            ("tokenx", false),
            ("X_SECRETS", false),
            ("PUBLIC_KEY", false),
            ("key_public", false),
            ("SSH-KEY", false),
        ] {
            assert_eq!(names_a_secret(name), want, "{name}");
        }
    }

    #[test]
    fn values_of_secrets() {
        // Put together here, so that no scanner takes this file for a leak.
        let letters = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5hJ7kL9nP1rS3tU5wX7zA9cD1eF3gH5";
        let token = |prefix: &str, n: usize| format!("{prefix}{}", &letters[..n]);
        let aws = format!("AKIA{}", "Z7Q2M4N8B3V6C1X5");
        for (text, want) in [
            (token("ghp_", 36), Some("a GitHub token")),
            (format!("\"{}\"", token("ghs_", 36)), Some("a GitHub token")),
            (
                format!("https://x:{}@github.com/a/b", token("gho_", 36)),
                Some("a GitHub token"),
            ),
            (token("glpat-", 20), Some("a GitLab token")),
            (aws.clone(), Some("an access key of AWS")),
            (token("npm_", 36), Some("an npm token")),
            (token("sk_live_", 30), Some("a key of Stripe")),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3".into(),
                Some("a private key"),
            ),
            (
                "'-----BEGIN PGP PRIVATE KEY BLOCK-----'".into(),
                Some("a private key"),
            ),
            ("-----BEGIN CERTIFICATE-----".into(), None),
            ("-----BEGIN PUBLIC KEY-----".into(), None),
            (token("ghp_", 35), None),
            (format!("ghp_{}", "x".repeat(36)), None),
            (format!("x{aws}"), None),
            (format!("{aws}0"), None),
            ("AKIAIOSFODNN7EXAMPLE".into(), None),
            ("$GITHUB_TOKEN".into(), None),
            ("npm_config_cache".into(), None),
            (String::new(), None),
            ("ghp_é".into(), None),
        ] {
            assert_eq!(secret_in(&text).map(|f| f.0), want, "{text}");
        }
    }
}
