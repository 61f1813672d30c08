//! The colours of the tree: the usual ones, or those of `BUILDKIT_COLORS`, in the form that docker reads:
//! `run=123,20,245:error=yellow:cancel=blue:warning=white`.

/// Colours as escape sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Palette {
    /// Steps that are done.
    pub(super) run: String,
    /// Steps that were stopped.
    pub(super) cancel: String,
    /// Steps that failed.
    pub(super) error: String,
    /// Warnings.
    pub(super) warning: String,
}

impl Default for Palette {
    fn default() -> Self {
        let code = |n: u8| format!("\x1b[{n}m");
        Self {
            run: code(34),
            cancel: code(33),
            error: code(31),
            warning: code(33),
        }
    }
}

/// Names with their codes.
const NAMES: [(&str, u8); 16] = [
    ("black", 30),
    ("red", 31),
    ("green", 32),
    ("yellow", 33),
    ("blue", 34),
    ("magenta", 35),
    ("cyan", 36),
    ("white", 37),
    ("light-black", 90),
    ("light-red", 91),
    ("light-green", 92),
    ("light-yellow", 93),
    ("light-blue", 94),
    ("light-magenta", 95),
    ("light-cyan", 96),
    ("light-white", 97),
];

impl Palette {
    /// The colours that `text` names. What it does not name, or names badly, is as usual: nobody wants a
    /// build to fail for its colours.
    pub(super) fn parse(text: &str) -> Self {
        let mut palette = Self::default();
        for part in text.split(':') {
            let Some((what, colour)) = part.split_once('=') else {
                continue;
            };
            let Some(code) = colour_of(colour) else {
                continue;
            };
            match what {
                "run" => palette.run = code,
                "cancel" => palette.cancel = code,
                "error" => palette.error = code,
                "warning" => palette.warning = code,
                _ => {}
            }
        }
        palette
    }

    /// What the environment says.
    pub(super) fn of_environment() -> Self {
        std::env::var("BUILDKIT_COLORS").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }
}

fn colour_of(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    if let Some((_, code)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Some(format!("\x1b[{code}m"));
    }
    let parts: Vec<u8> = text
        .split(',')
        .map_while(|n| n.trim().parse().ok())
        .collect();
    match (parts.as_slice(), text.matches(',').count()) {
        ([red, green, blue], 2) => Some(format!("\x1b[38;2;{red};{green};{blue}m")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_names_or_numbers() {
        let usual = Palette::default();
        let own = Palette::parse("run=cyan:error=1,2,3:cancel=no-such:warning=300,0,0:x=red:junk");
        assert_eq!(own.run, "\x1b[36m");
        assert_eq!(own.error, "\x1b[38;2;1;2;3m");
        assert_eq!(
            (own.cancel, own.warning),
            (usual.cancel.clone(), usual.warning.clone())
        );
        assert_eq!(Palette::parse(""), usual);
    }
}
