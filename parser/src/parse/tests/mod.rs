//! Whole files: trees, diagnostics, spans.

mod errors;

use crate::{
    Command, Form, Healthcheck, Heredoc, Instruction, Kind, Parsed, Severity, SourceArg, Span,
    Text, parse, parse_instruction,
};

fn good(source: &str) -> Parsed {
    let parsed = parse(source);
    assert_eq!(parsed.diagnostics, [], "{source}");
    parsed
}

/// The only instruction after `FROM x`.
fn one(line: &str) -> Instruction {
    let mut parsed = good(&format!("FROM x\n{line}\n"));
    assert_eq!(parsed.dockerfile.instructions.len(), 2, "{line}");
    parsed.dockerfile.instructions.remove(1)
}

fn values(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|t| t.value.as_str()).collect()
}

fn form(command: &Command) -> String {
    match &command.form {
        Form::Shell(text) => text.value.clone(),
        Form::Exec(words) => format!("{:?}", values(words)),
    }
}

/// A short picture of an instruction.
fn show(instruction: &Instruction) -> String {
    let texts = |texts: &[Text]| format!("{:?}", values(texts));
    let pairs = |pairs: &[crate::KeyValue]| {
        pairs
            .iter()
            .map(|p| {
                format!(
                    "<{}>{}<{}>",
                    p.key.value,
                    if p.legacy { " " } else { "=" },
                    p.value.value
                )
            })
            .collect::<String>()
    };
    let transfer = |t: &crate::Transfer| {
        let sources: Vec<String> = t
            .sources
            .iter()
            .map(|s| match s {
                SourceArg::Path(path) => path.value.clone(),
                SourceArg::Heredoc(h) => format!("<<{}", h.name),
            })
            .collect();
        format!("{sources:?} > {}", t.dest.value)
    };
    match &instruction.kind {
        Kind::From { image, alias, .. } => format!(
            "{} as {:?}",
            image.value,
            alias.as_ref().map(|a| a.value.as_str())
        ),
        Kind::Run(c) | Kind::Cmd(c) | Kind::Entrypoint(c) => form(c),
        Kind::Shell(words) | Kind::Expose(words) | Kind::Volume(words) => texts(words),
        Kind::Label(p) | Kind::Env(p) => pairs(p),
        Kind::Arg(args) => args
            .iter()
            .map(|a| {
                format!(
                    "<{}>{:?}",
                    a.name.value,
                    a.default.as_ref().map(|d| d.value.as_str())
                )
            })
            .collect(),
        Kind::Maintainer(t) | Kind::User(t) | Kind::Workdir(t) | Kind::Stopsignal(t) => {
            t.value.clone()
        }
        Kind::Copy(t) | Kind::Add(t) => transfer(t),
        Kind::Onbuild { instruction } => {
            format!("{}: {}", instruction.keyword.value, show(instruction))
        }
        Kind::Healthcheck(Healthcheck::None) => "none".to_owned(),
        Kind::Healthcheck(Healthcheck::Cmd(c)) => format!("cmd {}", form(c)),
    }
}

#[test]
fn instructions() {
    for (line, want) in [
        ("FROM a:1", "a:1 as None"),
        (
            "from --platform=$P a@b aS C.d-e_1",
            "a@b as Some(\"C.d-e_1\")",
        ),
        ("RUN a && b  ", "a && b"),
        ("RUN [\"a\", \"b c\"]", "[\"a\", \"b c\"]"),
        ("RUN  [ \"a\" ,\t\"b\" ] ", "[\"a\", \"b\"]"),
        ("RUN [ -f x ] && y", "[ -f x ] && y"),
        (
            "RUN --mount=type=cache,target=/x --mount=type=ssh a --b",
            "a --b",
        ),
        ("CMD a", "a"),
        ("CMD []", "[]"),
        ("ENTRYPOINT [\"/a\"]", "[\"/a\"]"),
        ("SHELL [\"/bin/bash\", \"-c\"]", "[\"/bin/bash\", \"-c\"]"),
        (
            "ENV a=b c=\"d e\" f=g\\ h i='j k' l=",
            "<a>=<b><c>=<\"d e\"><f>=<g\\ h><i>=<'j k'><l>=<>",
        ),
        ("ENV a  b c=d ", "<a> <b c=d>"),
        ("ENV a=b=c", "<a>=<b=c>"),
        ("LABEL \"a b\"=c", "<\"a b\">=<c>"),
        ("LABEL a \"b\"", "<a> <\"b\">"),
        ("ARG a", "<a>None"),
        (
            "ARG a=b c d= e=\"f g\"",
            "<a>Some(\"b\")<c>None<d>Some(\"\")<e>Some(\"\\\"f g\\\"\")",
        ),
        ("MAINTAINER a <b@c>", "a <b@c>"),
        ("EXPOSE 80 443/tcp\t$p", "[\"80\", \"443/tcp\", \"$p\"]"),
        ("COPY a b /c/", "[\"a\", \"b\"] > /c/"),
        ("COPY [\"a b\", \"c\"]", "[\"a b\"] > c"),
        ("COPY --from=x --link --chmod=755 a b", "[\"a\"] > b"),
        (
            "ADD --checksum=sha256:0 --exclude=*.a --exclude=b http://x/y /",
            "[\"http://x/y\"] > /",
        ),
        ("VOLUME /a /b", "[\"/a\", \"/b\"]"),
        ("VOLUME [\"/a\", \" /b \"]", "[\"/a\", \"/b\"]"),
        ("USER a:b", "a:b"),
        ("WORKDIR /a b", "/a b"),
        ("STOPSIGNAL SIGTERM", "SIGTERM"),
        ("HEALTHCHECK none", "none"),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 cmd [\"a\"]",
            "cmd [\"a\"]",
        ),
        ("HEALTHCHECK  CMD  a b", "cmd a b"),
        ("ONBUILD  run a", "run: a"),
        ("ONBUILD COPY --chown=1 a b", "COPY: [\"a\"] > b"),
        ("  Run\ta", "a"),
    ] {
        assert_eq!(show(&one(line)), want, "{line}");
    }
}

#[test]
fn flags_are_kept_in_order() {
    let run = one("RUN --mount=\"type=secret,id=a b\" --network=none --mount='type=ssh' -- --x");
    let found: Vec<_> = run
        .flags
        .iter()
        .map(|f| {
            (
                f.name.value.as_str(),
                f.value.as_ref().map(|v| v.value.as_str()),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("mount", Some("type=secret,id=a b")),
            ("network", Some("none")),
            ("mount", Some("type=ssh"))
        ]
    );
    assert_eq!(show(&run), "--x");
}

#[test]
fn wrong_instructions_are_dropped_and_the_rest_kept() {
    let parsed = parse("ENV a=b\nARG v=1\nRUN x\nFROM a\nRNU y\nRUN z\nCOPY q\n");
    let kept: Vec<_> = parsed
        .dockerfile
        .instructions
        .iter()
        .map(|i| i.text.as_str())
        .collect();
    assert_eq!(kept, ["ARG v=1", "FROM a", "RUN z"]);
    let codes: Vec<_> = parsed.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(
        codes,
        ["no-stage", "unknown-instruction", "missing-argument"]
    );
}

#[test]
fn directives() {
    for (source, escape, syntax, check) in [
        ("FROM a", '\\', None, None),
        ("# escape=`\nFROM a", '`', None, None),
        (
            "\u{feff}#ESCAPE = ` \r\n# Syntax=docker/dockerfile:1 x\r\n#check=skip=all\r\nFROM a",
            '`',
            Some("docker/dockerfile:1 x"),
            Some("skip=all"),
        ),
        ("#!/bin/x\n# syntax=a\nFROM a", '\\', Some("a"), None),
        ("\n# escape=`\nFROM a", '\\', None, None),
        ("# note\n# escape=`\nFROM a", '\\', None, None),
        ("# other=1\n# escape=`\nFROM a", '\\', None, None),
        ("# escape=\nFROM a", '\\', None, None),
        ("FROM a\n# escape=`", '\\', None, None),
    ] {
        let found = good(source).dockerfile.directives;
        assert_eq!(found.escape, escape, "{source:?}");
        assert_eq!(
            found.syntax.as_ref().map(|t| t.value.as_str()),
            syntax,
            "{source:?}"
        );
        assert_eq!(
            found.check.as_ref().map(|t| t.value.as_str()),
            check,
            "{source:?}"
        );
        if let Some(text) = found.syntax {
            assert_eq!(source[text.span.start..text.span.end], text.value);
        }
    }
}

#[test]
fn lines_join() {
    for (source, want) in [
        ("FROM x\nRUN a \\\n  b\n", "RUN a   b"),
        ("FROM x\r\nRUN a \\\r\n  b\r\n", "RUN a   b"),
        ("FROM x\nRUN a \\  \t\nb", "RUN a b"),
        ("FROM x\nRUN a \\\n# c\n  # d \\\nb\n", "RUN a b"),
        ("FROM x\nRUN a \\", "RUN a"),
        ("FROM x\nRUN a \\\\\n", "RUN a \\\\"),
        ("# escape=`\nFROM x\nRUN a `\n b\\\n", "RUN a  b\\"),
        ("FROM x\nRUN \\\na", "RUN a"),
        ("FROM x\nRU\\\nN a", "RUN a"),
    ] {
        let parsed = good(source);
        assert_eq!(parsed.dockerfile.instructions[1].text, want, "{source:?}");
    }
    let parsed = parse("FROM x\nRUN a \\\n\n \nb\nRUN c");
    let codes: Vec<_> = parsed
        .diagnostics
        .iter()
        .map(|d| (d.severity, d.code, d.span))
        .collect();
    // From the first blank line to the end of the instruction.
    assert_eq!(
        codes,
        [(Severity::Warning, "empty-continuation", Span::new(15, 19))]
    );
    assert_eq!(parsed.dockerfile.instructions[1].text, "RUN a b");
    assert_eq!(parsed.dockerfile.instructions.len(), 3);
}

#[test]
fn suspicious_json_is_a_warning() {
    for line in [
        "CMD ['a', 'b']",
        "RUN [\"a\" \"b\"]",
        "COPY [\"a\", \"b\"] c",
        "ENTRYPOINT [\"a\",]",
    ] {
        let parsed = parse(&format!("FROM x\n{line}"));
        let codes: Vec<_> = parsed
            .diagnostics
            .iter()
            .map(|d| (d.severity, d.code))
            .collect();
        assert_eq!(codes, [(Severity::Warning, "json-malformed")], "{line}");
        assert_eq!(parsed.dockerfile.instructions.len(), 2, "{line}");
    }
}

#[test]
fn comments_belong_to_the_next_instruction() {
    let parsed = good("# syntax=a\n# gone\n\n#one\n  # two \nFROM a\nRUN b\n# last");
    let comments: Vec<_> = parsed
        .dockerfile
        .instructions
        .iter()
        .map(|i| values(&i.comments))
        .collect();
    assert_eq!(comments, [vec!["one", "two"], vec![]]);
}

fn heredocs(instruction: &Instruction) -> Vec<&Heredoc> {
    match &instruction.kind {
        Kind::Run(command) => command.heredocs.iter().collect(),
        Kind::Copy(t) | Kind::Add(t) => t
            .sources
            .iter()
            .filter_map(|s| {
                if let SourceArg::Heredoc(h) = s {
                    Some(h)
                } else {
                    None
                }
            })
            .collect(),
        Kind::Onbuild { instruction } => heredocs(instruction),
        _ => Vec::new(),
    }
}

#[test]
fn heredocs_take_their_lines() {
    for (text, want) in [
        (
            "RUN <<EOF\na\n  b\nEOF\n",
            &[("EOF", "a\n  b\n", true, false, 0)][..],
        ),
        ("RUN <<EOF\nEOF", &[("EOF", "", true, false, 0)]),
        (
            "RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n",
            &[("EOF", "a\nb\n", true, true, 0)],
        ),
        (
            "RUN <<'EOF'\n$a\r\nEOF\r\n",
            &[("EOF", "$a\r\n", false, false, 0)],
        ),
        (
            "RUN cat <<A 3<<\"B\"\n1\nA\n2\nB\n",
            &[("A", "1\n", true, false, 0), ("B", "2\n", false, false, 3)],
        ),
        (
            "RUN a \\\n <<EOF\n# kept\nx \\\n\nEOF",
            &[("EOF", "# kept\nx \\\n\n", true, false, 0)],
        ),
        (
            "COPY <<a <<b /c\n1\na\n2\nb",
            &[("a", "1\n", true, false, 0), ("b", "2\n", true, false, 0)],
        ),
        ("ADD <<-a x /c\n\t1\n\ta", &[("a", "1\n", true, true, 0)]),
        ("ONBUILD RUN <<E\nx\nE", &[("E", "x\n", true, false, 0)]),
        ("ONBUILD COPY <<E /y\nx\nE", &[("E", "x\n", true, false, 0)]),
        ("RUN [\"<<EOF\"]", &[]),
        ("RUN echo \"<<EOF\" '<<A'", &[]),
        ("RUN cat <<<EOF", &[]),
        ("RUN echo $((1<<2))", &[]),
        ("CMD <<EOF", &[]),
    ] {
        let instruction = one(text);
        let found: Vec<_> = heredocs(&instruction)
            .iter()
            .map(|h| {
                (
                    h.name.as_str(),
                    h.content.value.as_str(),
                    h.expand,
                    h.strip_tabs,
                    h.fd,
                )
            })
            .collect();
        assert_eq!(found, want, "{text:?}");
        assert_eq!(
            instruction.span,
            Span::new(7, 7 + text.trim_end().len()),
            "{text:?}"
        );
    }
}

#[test]
fn single_instructions() {
    let (found, diagnostics) = parse_instruction("RUN <<E cat\nx\nE", '\\');
    assert_eq!(diagnostics, []);
    let found = found.expect("an instruction");
    assert_eq!(
        (show(&found), heredocs(&found).len()),
        ("<<E cat".to_owned(), 1)
    );
    // What looks like a directive is a comment here.
    let (found, _) = parse_instruction("# escape=`\nENV a=b\\ c", '\\');
    assert_eq!(show(&found.expect("an instruction")), "<a>=<b\\ c>");
    for (text, code) in [
        ("", "empty"),
        ("RUN a\nRUN b", "several-instructions"),
        ("RNU a", "unknown-instruction"),
    ] {
        let (found, diagnostics) = parse_instruction(text, '\\');
        assert_eq!(found, None, "{text}");
        assert_eq!(
            diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(),
            [code],
            "{text}"
        );
    }
}
