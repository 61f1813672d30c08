//! Any text as a Dockerfile: parsed, and formatted if it is good.

use kiln_parser::{
    Dockerfile, Form, FormatError, Healthcheck, Instruction, Kind, SourceArg, Span, Text, format,
    parse, parse_instruction,
};

/// Checks what holds for any text.
pub(crate) fn check(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = parse(source);
    let fits = |span: Span| source.get(span.start..span.end).is_some();
    assert!(parsed.diagnostics.len() <= 202, "findings are bounded");
    for found in &parsed.diagnostics {
        assert!(fits(found.span), "{found:?}");
    }
    let mut end = 0;
    for instruction in &parsed.dockerfile.instructions {
        assert!(end <= instruction.span.start, "instructions overlap");
        end = instruction.span.end;
        assert!(fits(instruction.span), "{instruction:?}");
        for flag in &instruction.flags {
            assert!(fits(flag.span), "{flag:?}");
        }
    }
    let mut size = 0;
    for_each_text(&parsed.dockerfile, &mut |text| {
        assert!(fits(text.span), "{text:?}");
        size += text.value.len();
    });
    assert!(
        size <= 8 * source.len(),
        "the tree of {} bytes has {size}",
        source.len()
    );
    match format(source) {
        Ok(once) => assert_eq!(format(&once).as_ref(), Ok(&once), "formatting twice"),
        Err(FormatError::Invalid(_)) => assert!(parsed.has_errors()),
        Err(error) => panic!("{error}"),
    }
    for escape in ['\\', '`'] {
        let (instruction, findings) = parse_instruction(source, escape);
        assert!(instruction.is_some() || !findings.is_empty());
    }
}

/// Every text of a tree.
pub(crate) fn for_each_text<'a>(dockerfile: &'a Dockerfile, see: &mut dyn FnMut(&'a Text)) {
    let directives = &dockerfile.directives;
    let given = directives.syntax.iter().chain(&directives.check);
    given.for_each(&mut *see);
    for one in &dockerfile.instructions {
        instruction(one, see);
    }
}

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
