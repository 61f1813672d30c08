//! Spans, and properties of any text.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::{
    Form, Healthcheck, Instruction, Kind, LineIndex, Parsed, SourceArg, Span, Text, parse,
};

#[test]
fn spans_point_at_the_source() {
    let source = "ARG v=\"1 2\"\nFROM --platform=\"$P\" a \\\n  AS e\nENV k=v \\\n # c\n  l=é\nCOPY [\"a\\u0062\", \"c\"]\n";
    let parsed = parse(source);
    let mut words = Vec::new();
    for_each_text(&parsed, &mut |text| {
        words.push(&source[text.span.start..text.span.end]);
    });
    for word in [
        "v",
        "\"1 2\"",
        "platform",
        "\"$P\"",
        "a",
        "k",
        "l",
        "\"a\\u0062\"",
        "\"c\"",
    ] {
        assert!(words.contains(&word), "{word} is not in {words:?}");
    }
    let index = LineIndex::new(source);
    let env = &parsed.dockerfile.instructions[2];
    assert_eq!(
        (index.position(env.span.start), index.position(env.span.end)),
        ((4, 1), (6, 6))
    );
    assert_eq!(
        (index.line_text(3), index.line_text(99), index.line_count()),
        ("  AS e", "", 8)
    );
    assert_eq!(index.position(source.find('é').expect("é") + 2), (6, 6));
}

/// Every text of a tree.
fn for_each_text<'a>(parsed: &'a Parsed, see: &mut dyn FnMut(&'a Text)) {
    fn instruction<'a>(one: &'a Instruction, see: &mut dyn FnMut(&'a Text)) {
        see(&one.keyword);
        one.comments.iter().for_each(&mut *see);
        for flag in &one.flags {
            see(&flag.name);
            flag.value.iter().for_each(&mut *see);
        }
        match &one.kind {
            Kind::From {
                image,
                as_word,
                alias,
            } => {
                see(image);
                as_word.iter().for_each(&mut *see);
                alias.iter().for_each(see);
            }
            Kind::Run(c)
            | Kind::Cmd(c)
            | Kind::Entrypoint(c)
            | Kind::Healthcheck(Healthcheck::Cmd(c)) => {
                match &c.form {
                    Form::Exec(words) => words.iter().for_each(&mut *see),
                    Form::Shell(text) => see(text),
                }
                c.heredocs.iter().for_each(|h| see(&h.content));
            }
            Kind::Shell(words) | Kind::Expose(words) | Kind::Volume(words) => {
                words.iter().for_each(see);
            }
            Kind::Label(pairs) | Kind::Env(pairs) => pairs.iter().for_each(|p| {
                see(&p.key);
                see(&p.value);
            }),
            Kind::Arg(args) => args.iter().for_each(|a| {
                see(&a.name);
                a.default.iter().for_each(&mut *see);
            }),
            Kind::Maintainer(t) | Kind::User(t) | Kind::Workdir(t) | Kind::Stopsignal(t) => see(t),
            Kind::Copy(t) | Kind::Add(t) => {
                see(&t.dest);
                t.sources.iter().for_each(|s| match s {
                    SourceArg::Path(path) => see(path),
                    SourceArg::Heredoc(h) => see(&h.content),
                });
            }
            Kind::Onbuild { instruction: inner } => instruction(inner, see),
            Kind::Healthcheck(Healthcheck::None) => {}
        }
    }
    let directives = &parsed.dockerfile.directives;
    directives
        .syntax
        .iter()
        .chain(&directives.check)
        .for_each(&mut *see);
    parsed
        .dockerfile
        .instructions
        .iter()
        .for_each(|i| instruction(i, see));
}

fn check_spans(source: &str) -> Result<(), TestCaseError> {
    let parsed = parse(source);
    let fits = |span: Span| span.start <= span.end && source.get(span.start..span.end).is_some();
    for found in &parsed.diagnostics {
        prop_assert!(fits(found.span), "{:?}", found);
    }
    for instruction in &parsed.dockerfile.instructions {
        prop_assert!(fits(instruction.span));
        prop_assert!(instruction.flags.iter().all(|f| fits(f.span)));
    }
    let mut bad = Vec::new();
    for_each_text(&parsed, &mut |text| {
        if !fits(text.span) {
            bad.push(text.clone());
        }
    });
    prop_assert!(bad.is_empty(), "{:?}", bad);
    Ok(())
}

proptest! {
    #[test]
    fn any_text_parses(source in "\\PC{0,200}") {
        check_spans(&source)?;
    }

    #[test]
    fn near_dockerfiles_parse(
        lines in proptest::collection::vec(
            (
                "(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|CMD|ONBUILD|HEALTHCHECK|VOLUME|SHELL|#|# escape=`|FORM| |)",
                "[ \t]?",
                "[-a-c=\"'\\\\`$<E\\[\\], #\u{e9}\u{a0}]{0,16}",
                "(\n|\r\n| \\\\\n|`\n|\nE\n)",
            ),
            0..12,
        ),
        head in "(\u{feff})?(FROM x\n)?",
    ) {
        let body: String = lines.into_iter().map(|(a, b, c, d)| format!("{a}{b}{c}{d}")).collect();
        check_spans(&format!("{head}{body}"))?;
    }
}

#[test]
fn large_inputs_take_linear_time() {
    let size = 1 << 18;
    let fill = |unit: &str| format!("FROM x\n{}", unit.repeat(size / unit.len()));
    let nested = format!("FROM x\nRUN <<E {}", "${a:-".repeat(size / 5));
    let many: String = (0..size / 12).map(|i| format!(" <<n{i}")).collect();
    for source in [
        fill("RUN a\n"),
        fill("RUN\n"),
        fill("RUN \\\n"),
        fill("FORM\n"),
        fill("\\\n"),
        fill("\\\n\n"),
        fill("# c\n"),
        fill("RUN <<E\nE\n"),
        fill("RUN <<E\n"),
        format!("FROM x\nCOPY{many} /x"),
        format!("FROM x\nENV {}", "a=\"b".repeat(size / 4)),
        format!("FROM x\nENV {}", "a=b ".repeat(size / 4)),
        format!("FROM x\nCOPY {}", "--exclude=a ".repeat(size / 12)),
        format!("FROM x\nCOPY {}", "--from=a ".repeat(size / 9)),
        format!("FROM x\nCMD [{}", "\"a\",".repeat(size / 4)),
        format!("FROM x\nCMD {}", "[".repeat(size)),
        format!("FROM x\nRUN <<E {}", "'\"".repeat(size / 2)),
        nested,
        "a".repeat(size),
        "\r".repeat(size),
        "\\".repeat(size),
    ] {
        let begin = Instant::now();
        let _ = parse(&source);
        let took = begin.elapsed();
        let shown: String = source.chars().take(30).collect();
        assert!(took < Duration::from_secs(10), "{shown:?} took {took:?}");
    }
}
