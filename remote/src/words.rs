//! What a server says, fit to be shown: servers repeat what they were told, keys and all.

/// What takes the place of a secret.
const HIDDEN: &str = "…";
/// Characters of a message that are kept.
const LONGEST: usize = 1000;
/// Characters of the shortest text that is taken for a secret. Shorter ones are everywhere.
const SHORTEST: usize = 4;

/// What must not be shown.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Secrets {
    pub(crate) fn new(all: impl IntoIterator<Item = String>) -> Self {
        let long = all.into_iter().filter(|s| s.chars().count() >= SHORTEST);
        let mut all: Vec<String> = long.collect();
        // One may be a part of another.
        all.sort_by_key(|s| std::cmp::Reverse(s.len()));
        Self(all)
    }

    /// A message in one line without any of them.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret, HIDDEN);
        }
        let line = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LONGEST);
        line.collect::<String>().trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_without_secrets() {
        let secrets = Secrets::new(["key", "geheim", "geheimnis"].map(String::from));
        for (text, shown) in [
            ("a key", "a key"),
            ("geheimnis, geheim", "…, …"),
            ("one\nline\u{1b}[31m\n", "one line [31m"),
        ] {
            assert_eq!(secrets.hide(text), shown);
        }
        assert_eq!(secrets.hide(&"x".repeat(5000)).len(), LONGEST);
        assert_eq!(format!("{secrets:?}"), "…");
    }
}
