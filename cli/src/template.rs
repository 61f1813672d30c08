//! `--format`: the part of Go's templates that people use on command lines.
//!
//! Text with `{{.Field}}`, `{{.Field.Of.Field}}`, `{{index .Map "key"}}`, string literals and the
//! functions `json`, `upper`, `lower`, `title`, `len` and `join`, with pipes. `table ` in front
//! asks for a table with a head. What is not known is an error, never silently empty.

use serde_json::Value;

use crate::errors::Failure;
use crate::printable;

/// A template that has been read.
#[derive(Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
    table: bool,
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// A pipe of commands, each a list of words.
    Pipe(Vec<Vec<Word>>),
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Field(Vec<String>),
    Literal(Value),
    Function(String),
}

fn bad(text: &str, why: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("--format: `{text}`: {why}"))
        .with_hint("fields are written {{.Name}}; {{json .}} shows all there are")
}

/// Turns `\t` and `\n` of a shell word into what they mean.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn words(text: &str) -> Result<Vec<Word>, Failure> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('"') {
            let (literal, after) = after
                .split_once('"')
                .ok_or_else(|| bad(text, "a quote is not closed"))?;
            out.push(Word::Literal(unescape(literal).into()));
            rest = after.trim_start();
            continue;
        }
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        if let Some(path) = word.strip_prefix('.') {
            let path = path
                .split('.')
                .filter(|p| !p.is_empty())
                .map(str::to_owned)
                .collect();
            out.push(Word::Field(path));
        } else if let Ok(number) = word.parse::<i64>() {
            out.push(Word::Literal(number.into()));
        } else {
            out.push(Word::Function(word.to_owned()));
        }
    }
    Ok(out)
}

impl Template {
    /// Reads a template. The word `json` alone means `{{json .}}`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let text = if text == "json" { "{{json .}}" } else { text };
        let (table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let (inside, after) = after
                .split_once("}}")
                .ok_or_else(|| bad(text, "`{{` is not closed"))?;
            let inside = inside.trim_matches('-').trim();
            let pipe = inside
                .split('|')
                .map(words)
                .collect::<Result<Vec<_>, _>>()?;
            if pipe.iter().any(Vec::is_empty) {
                return Err(bad(text, "an action is empty"));
            }
            parts.push(Part::Pipe(pipe));
            rest = after;
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Self { parts, table })
    }

    /// What `--format` asks for; none for the table that is printed without it, which the word
    /// `table` alone asks for as well.
    pub(crate) fn asked(format: Option<&str>) -> Result<Option<Self>, Failure> {
        match format.map(str::trim) {
            None | Some("" | "table") => Ok(None),
            Some(text) => Self::parse(text).map(Some),
        }
    }

    /// The text for one value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, Failure> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Pipe(pipe) => {
                    let mut piped = None;
                    for command in pipe {
                        piped = Some(evaluate(command, value, piped)?);
                    }
                    out.push_str(&show(&piped.unwrap_or(Value::Null)));
                }
            }
        }
        Ok(out)
    }

    /// The lines for a list: aligned with a head if the template asks for a table. `heads` are the
    /// heads of fields that are not simply their names in capitals.
    pub(crate) fn lines(
        &self,
        values: &[Value],
        heads: &[(&str, &str)],
    ) -> Result<Vec<String>, Failure> {
        let rows = values
            .iter()
            .map(|v| self.render(v))
            .collect::<Result<Vec<_>, _>>()?;
        if !self.table {
            return Ok(rows);
        }
        let mut head = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => head.push_str(text),
                Part::Pipe(pipe) => {
                    if let Some(Word::Field(path)) = pipe.first().and_then(|c| c.last()) {
                        let field = path.last().map_or("", String::as_str);
                        let known = heads.iter().find(|(of, _)| *of == field);
                        head.push_str(&known.map_or_else(|| capitals(field), |(_, h)| (*h).into()));
                    }
                }
            }
        }
        let table: Vec<String> = std::iter::once(head).chain(rows).collect();
        Ok(align(&table))
    }
}

/// `CreatedAt` as `CREATED AT`.
fn capitals(field: &str) -> String {
    let mut out = String::new();
    let mut last = None;
    for c in field.chars() {
        if c.is_uppercase() && last.is_some_and(char::is_lowercase) {
            out.push(' ');
        }
        out.extend(c.to_uppercase());
        last = Some(c);
    }
    out
}

/// Aligns tab-separated columns as docker's tables are.
pub(crate) fn align(rows: &[String]) -> Vec<String> {
    use std::io::Write as _;
    let mut writer = tabwriter::TabWriter::new(Vec::new()).padding(3).minwidth(8);
    let text = rows.join("\n") + "\n";
    // Writing to memory cannot fail.
    let _ = writer
        .write_all(text.as_bytes())
        .and_then(|()| writer.flush());
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(|l| l.trim_end().to_owned())
        .collect()
}

fn field(value: &Value, path: &[String]) -> Result<Value, Failure> {
    let mut here = value;
    for name in path {
        here = match here {
            Value::Object(map) => map.get(name).ok_or_else(|| {
                let known: Vec<&str> = map.keys().map(String::as_str).collect();
                Failure::usage(format!("--format: there is no field `{name}`"))
                    .with_hint(format!("fields are: {}", known.join(", ")))
            })?,
            _ => {
                return Err(Failure::usage(format!(
                    "--format: `{name}` is asked of a value without fields"
                )));
            }
        };
    }
    Ok(here.clone())
}

/// Actions of Go's templates.
const KEYWORDS: &[&str] = &[
    "range", "if", "else", "end", "with", "define", "template", "block", "break", "continue",
];

fn evaluate(command: &[Word], value: &Value, piped: Option<Value>) -> Result<Value, Failure> {
    let mut args = Vec::new();
    let mut function = None;
    for word in command {
        match word {
            Word::Field(path) => args.push(field(value, path)?),
            Word::Literal(literal) => args.push(literal.clone()),
            Word::Function(name) if function.is_none() && args.is_empty() => function = Some(name),
            Word::Function(name) => return Err(bad(name, "not expected here")),
        }
    }
    args.extend(piped);
    if let Some(name) = function.filter(|name| KEYWORDS.contains(&name.as_str())) {
        let why = "templates here have fields and functions, and no such actions";
        return Err(bad(name, why));
    }
    let Some(name) = function else {
        return args
            .into_iter()
            .next()
            .ok_or_else(|| bad("", "nothing to show"));
    };
    call(name, &args).ok_or_else(|| {
        bad(
            name,
            "unknown function, or one that these values do not fit",
        )
    })
}

fn call(name: &str, args: &[Value]) -> Option<Value> {
    match (name, args) {
        ("json", [v]) => {
            let json = serde_json::to_string(v).ok()?;
            Some(printable::json(json).into())
        }
        ("upper", [v]) => Some(show(v).to_uppercase().into()),
        ("lower", [v]) => Some(show(v).to_lowercase().into()),
        ("title", [v]) => {
            let text = show(v);
            let mut chars = text.chars();
            Some(
                chars
                    .next()
                    .map(|c| c.to_uppercase().chain(chars).collect::<String>())
                    .into(),
            )
        }
        ("len", [Value::Array(list)]) => Some(list.len().into()),
        ("len", [Value::Object(map)]) => Some(map.len().into()),
        ("len", [Value::String(text)]) => Some(text.len().into()),
        ("join", [Value::Array(list), Value::String(by)]) => {
            Some(list.iter().map(show).collect::<Vec<_>>().join(by).into())
        }
        ("index", [Value::Object(map), Value::String(key)]) => {
            Some(map.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        ("index", [Value::Array(list), Value::Number(at)]) => {
            list.get(usize::try_from(at.as_u64()?).ok()?).cloned()
        }
        _ => None,
    }
}

/// A value as Go prints it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", show(v)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_render_as_in_go() {
        let value = json!({"ID": "ab", "Tags": ["x", "y"], "Config": {"Env": ["A=1"], "L": {"k": "v"}}, "N": 3});
        let cases = [
            ("{{.ID}}", "ab"),
            ("{{ .ID }}:{{.N}}", "ab:3"),
            ("{{json .Tags}}", r#"["x","y"]"#),
            ("{{.Config.Env}}", "[A=1]"),
            ("{{join .Tags \",\"}}", "x,y"),
            ("{{index .Config.L \"k\"}}", "v"),
            ("{{.ID | upper}}", "AB"),
            ("{{len .Tags}}\\t{{.ID}}", "2\tab"),
            ("{{.Config.L}}", "map[k:v]"),
        ];
        for (template, want) in cases {
            assert_eq!(
                Template::parse(template).unwrap().render(&value).unwrap(),
                want,
                "{template}"
            );
        }
        for wrong in ["{{.Nope}}", "{{frob .ID}}", "{{.ID.X}}"] {
            assert!(
                Template::parse(wrong).unwrap().render(&value).is_err(),
                "{wrong}"
            );
        }
        for wrong in ["{{.ID", "{{}}", "{{\"x}}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tables_have_a_head() {
        let values = [
            json!({"ID": "abcdefgh", "CreatedAt": 1}),
            json!({"ID": "x", "CreatedAt": 2}),
        ];
        let table = Template::asked(Some("table {{.ID}}\\t{{.CreatedAt}}"));
        let table = table.unwrap().unwrap();
        let heads = [("ID", "IMAGE ID")];
        assert_eq!(
            table.lines(&values, &heads).unwrap(),
            ["IMAGE ID   CREATED AT", "abcdefgh   1", "x          2"]
        );
        for usual in [None, Some("table"), Some("table "), Some("")] {
            assert!(Template::asked(usual).unwrap().is_none(), "{usual:?}");
        }
    }
}
