//! What an error says together with the errors that led to it.

use std::error::Error;

/// What a failed look-up of a name is called. Below it there are only the resolver's own notes.
const LOOK_UP: &str = "dns error";

/// An error with its causes in one line; a cause that its error already told is left out, and what is
/// below a failed look-up of a name.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source().filter(|_| told != LOOK_UP);
    }
    text
}

/// The last of an error's causes, which says most; of a failed look-up of a name, just that.
#[must_use]
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut at = error;
    while let Some(cause) = at.source() {
        at = cause;
        if at.to_string() == LOOK_UP {
            break;
        }
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        #[source]
        cause: Option<Box<Told>>,
    }

    fn chain(texts: &[&'static str]) -> Told {
        let (text, rest) = texts.split_first().unwrap();
        let cause = (!rest.is_empty()).then(|| Box::new(chain(rest)));
        Told { text, cause }
    }

    #[test]
    fn causes_are_told_once_and_the_last_says_most() {
        for (texts, all, last) in [
            (&["alone"][..], "alone", "alone"),
            (&["a", "b", "c"], "a: b: c", "c"),
            (
                &["no `x`: gone", "gone", "late"],
                "no `x`: gone: late",
                "late",
            ),
            (
                &["sending failed", "dns error", "record 7"],
                "sending failed: dns error",
                "dns error",
            ),
        ] {
            assert_eq!(with_causes(&chain(texts)), all);
            assert_eq!(innermost(&chain(texts)), last);
        }
    }
}
