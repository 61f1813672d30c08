//! Just enough of the shell's language to tell simple commands apart.

use kiln_parser::{Command, Form};

/// The script that a RUN gives to a shell. None where the shell does not read the command itself.
pub(super) fn script(command: &Command) -> Option<&str> {
    let Form::Shell(text) = &command.form else {
        return None;
    };
    match command.heredocs.as_slice() {
        [] => Some(&text.value),
        // A lone here-document is the script, unless it names its interpreter.
        [doc] if is_marker(&text.value) && !doc.content.value.starts_with("#!") => {
            Some(&doc.content.value)
        }
        _ => None,
    }
}

fn is_marker(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("<<") && !text.contains(char::is_whitespace)
}

/// Words that stand before a command and change nothing of what it reads.
const LEADING: [&str; 9] = [
    "if", "then", "else", "do", "while", "until", "!", "sudo", "exec",
];

/// The simple commands of a script, as words without quotes. Variables stay as they are.
/// None where a quote or a substitution has no end.
pub(super) fn commands(script: &str) -> Option<Vec<Vec<String>>> {
    let mut all: Vec<Vec<String>> = vec![vec![]];
    let mut word: Option<String> = None;
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(next) => word.get_or_insert_default().push(next),
                None => return None,
            },
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return None,
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.push(chars.next()?),
                        Some(c @ ('`' | '$')) => substitution(c, &mut chars, word)?,
                        Some(c) => word.push(c),
                        None => return None,
                    }
                }
            }
            '`' | '$' => substitution(c, &mut chars, word.get_or_insert_default())?,
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            '&' if word.as_ref().is_some_and(|w| w.ends_with('>')) => {
                word.get_or_insert_default().push(c);
            }
            ';' | '&' | '|' | '\n' | '(' | ')' | '{' | '}' if ends_a_command(c, word.as_ref()) => {
                finish(&mut all, &mut word);
                all.push(vec![]);
            }
            c if c.is_whitespace() => finish(&mut all, &mut word),
            c => word.get_or_insert_default().push(c),
        }
    }
    finish(&mut all, &mut word);
    let commands = all.into_iter().map(|words| {
        let assignment = |w: &String| {
            w.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            })
        };
        let leads = |w: &String| LEADING.contains(&w.as_str()) || assignment(w);
        words.into_iter().skip_while(leads).collect::<Vec<_>>()
    });
    Some(commands.filter(|words| !words.is_empty()).collect())
}

/// Adds a dollar sign or a backquote to `word`, with the whole of a substitution that it begins.
fn substitution(
    first: char,
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Option<()> {
    word.push(first);
    let mut depth = 0;
    loop {
        if first == '$' && depth == 0 && chars.peek() != Some(&'(') {
            return Some(());
        }
        let c = chars.next()?;
        word.push(c);
        match (first, c) {
            ('$', '(') => depth += 1,
            ('$', ')') => {
                depth -= 1;
                if depth == 0 {
                    return Some(());
                }
            }
            ('`', '`') => return Some(()),
            _ => {}
        }
    }
}

/// Braces are part of a word unless they stand alone.
fn ends_a_command(c: char, word: Option<&String>) -> bool {
    !matches!(c, '{' | '}') || word.is_none()
}

fn finish(all: &mut [Vec<String>], word: &mut Option<String>) {
    if let (Some(word), Some(last)) = (word.take(), all.last_mut()) {
        last.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn scripts_fall_apart_into_commands() {
        let cases: [(&str, Option<&[&str]>); 17] = [
            ("a b", Some(&["a b"])),
            (
                "a && b; c|d || e & f",
                Some(&["a", "b", "c", "d", "e", "f"]),
            ),
            ("a 'b && c' \"d; e\"", Some(&["a b && c d; e"])),
            ("if a; then b; fi", Some(&["a", "b", "fi"])),
            ("X=1 Y= a", Some(&["a"])),
            ("{ a; b; }", Some(&["a", "b"])),
            ("rm -rf x/{a,b}", Some(&["rm -rf x/{a,b}"])),
            ("a # b && c\nd", Some(&["a", "d"])),
            ("a \\\n b", Some(&["a b"])),
            ("a\\ b c", Some(&["a b c"])),
            ("a $(b; c (d)) e; f", Some(&["a $(b; c (d)) e", "f"])),
            ("a \"x $(b | c)\" $d", Some(&["a x $(b | c) $d"])),
            ("a `b; c`x", Some(&["a `b; c`x"])),
            ("a 2>&1 | b", Some(&["a 2>&1", "b"])),
            ("a 'b", None),
            ("a $(b", None),
            ("", Some(&[])),
        ];
        for (script, want) in cases {
            let found = commands(script).map(|all| {
                let joined = all.iter().map(|words| words.join(" "));
                joined.collect::<Vec<_>>()
            });
            let want = want.map(|w| w.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(found, want, "{script}");
        }
    }
}
