//! Every error, its place and its advice.

use crate::{Severity, parse};

#[test]
fn errors() {
    for (source, code, message, at, help) in [
        ("", "empty-file", "no instructions", "", "FROM"),
        (
            "# only\n\n",
            "empty-file",
            "no instructions",
            "# only\n\n",
            "FROM",
        ),
        ("RUN a", "no-stage", "`RUN` stands before", "RUN", "ARG"),
        ("ARG a", "no-stage", "no `FROM`", "ARG", "FROM"),
        ("FORM a", "unknown-instruction", "`FORM`", "FORM", "`FROM`"),
        (
            "FROM x\nCOPPY a b",
            "unknown-instruction",
            "`COPPY`",
            "COPPY",
            "`COPY`",
        ),
        (
            "FROM x\nxyzzy a b",
            "unknown-instruction",
            "`xyzzy`",
            "xyzzy",
            "",
        ),
        (
            "FROM",
            "missing-argument",
            "`FROM` requires an image",
            "FROM",
            "",
        ),
        (
            "FROM a b",
            "from-arguments",
            "either one argument",
            "a b",
            "FROM image",
        ),
        (
            "FROM a to b",
            "from-arguments",
            "either one argument",
            "a to b",
            "FROM image",
        ),
        ("FROM a AS 1b", "invalid-stage-name", "`1b`", "1b", "letter"),
        (
            "FROM a AS b/c",
            "invalid-stage-name",
            "`b/c`",
            "b/c",
            "letter",
        ),
        (
            "FROM --platfrom=x a",
            "unknown-flag",
            "`--platfrom`",
            "--platfrom=x",
            "`--platform`",
        ),
        (
            "FROM --platform a",
            "missing-flag-value",
            "needs a value",
            "--platform",
            "=",
        ),
        (
            "FROM x\nCOPY --link=maybe a b",
            "invalid-flag-value",
            "`--link`",
            "--link=maybe",
            "",
        ),
        (
            "FROM x\nCOPY --link= a b",
            "invalid-flag-value",
            "`--link`",
            "--link=",
            "",
        ),
        (
            "FROM x\nCOPY --from=a --from=b a b",
            "duplicate-flag",
            "`--from`",
            "--from=b",
            "",
        ),
        (
            "FROM x\nWORKDIR --a /b",
            "unknown-flag",
            "`WORKDIR`",
            "--a",
            "",
        ),
        (
            "FROM x\nCOPY a",
            "missing-argument",
            "destination",
            "COPY",
            "",
        ),
        (
            "FROM x\nADD [\"a\"]",
            "missing-argument",
            "destination",
            "ADD",
            "",
        ),
        (
            "FROM x\nCOPY a <<b\nb",
            "heredoc-destination",
            "cannot be a heredoc",
            "<<b",
            "",
        ),
        (
            "FROM x\nRUN []",
            "missing-argument",
            "`RUN` requires a command",
            "RUN",
            "",
        ),
        (
            "FROM x\nRUN [\"a\", 1]",
            "json-not-strings",
            "strings",
            "[\"a\", 1]",
            "",
        ),
        (
            "FROM x\nSHELL bash -c",
            "shell-not-json",
            "JSON",
            "bash -c",
            "quotes",
        ),
        (
            "FROM x\nSHELL []",
            "missing-argument",
            "at least one",
            "SHELL",
            "",
        ),
        ("FROM x\nENV", "missing-argument", "`ENV`", "ENV", ""),
        (
            "FROM x\nENV a",
            "missing-value",
            "a name and a value",
            "a",
            "name=value",
        ),
        ("FROM x\nENV a=b c", "missing-equals", "`c`", "c", "quote"),
        ("FROM x\nLABEL =b", "blank-name", "`LABEL`", "=b", ""),
        ("FROM x\nARG =b", "blank-name", "`ARG`", "=b", ""),
        ("FROM x\nARG", "missing-argument", "`ARG`", "ARG", ""),
        (
            "FROM x\nEXPOSE",
            "missing-argument",
            "`EXPOSE`",
            "EXPOSE",
            "",
        ),
        (
            "FROM x\nVOLUME []",
            "missing-argument",
            "`VOLUME`",
            "VOLUME",
            "",
        ),
        (
            "FROM x\nVOLUME [\" \"]",
            "blank-volume",
            "blank",
            "\" \"",
            "",
        ),
        (
            "FROM x\nUSER",
            "missing-argument",
            "exactly one",
            "USER",
            "",
        ),
        (
            "FROM x\nONBUILD",
            "missing-argument",
            "`ONBUILD`",
            "ONBUILD",
            "",
        ),
        (
            "FROM x\nONBUILD ONBUILD RUN a",
            "forbidden-trigger",
            "`ONBUILD`",
            "ONBUILD",
            "",
        ),
        (
            "FROM x\nONBUILD from a",
            "forbidden-trigger",
            "`FROM`",
            "from",
            "",
        ),
        (
            "FROM x\nONBUILD RNU a",
            "unknown-instruction",
            "`RNU`",
            "RNU",
            "`RUN`",
        ),
        (
            "FROM x\nHEALTHCHECK",
            "missing-argument",
            "`HEALTHCHECK`",
            "HEALTHCHECK",
            "",
        ),
        (
            "FROM x\nHEALTHCHECK CMD",
            "missing-argument",
            "requires a command",
            "CMD",
            "",
        ),
        (
            "FROM x\nHEALTHCHECK NONE a",
            "too-many-arguments",
            "no arguments",
            "a",
            "",
        ),
        (
            "FROM x\nHEALTHCHECK curl a",
            "unknown-healthcheck",
            "`curl`",
            "curl",
            "CMD",
        ),
        (
            "FROM x\nHEALTHCHECK --interval=1 CMD a",
            "invalid-flag-value",
            "`--interval`",
            "--interval=1",
            "",
        ),
        (
            "FROM x\nHEALTHCHECK --timeout=1us CMD a",
            "invalid-flag-value",
            "1ms",
            "--timeout=1us",
            "",
        ),
        (
            "FROM x\nHEALTHCHECK --retries=-1 CMD a",
            "invalid-flag-value",
            "`--retries`",
            "--retries=-1",
            "",
        ),
        (
            "FROM x\nRUN <<EOF\na\n",
            "unterminated-heredoc",
            "`EOF`",
            "RUN",
            "`EOF`",
        ),
        (
            "# escape=x\nFROM a",
            "invalid-escape",
            "\"x\"",
            "x",
            "backtick",
        ),
        (
            "# escape=`\n# escape=`\nFROM a",
            "duplicate-directive",
            "`escape`",
            "escape",
            "",
        ),
        (
            "# syntax=a\n#SYNTAX = b\nFROM a",
            "duplicate-directive",
            "`syntax`",
            "SYNTAX",
            "",
        ),
    ] {
        let parsed = parse(source);
        let [found] = parsed.diagnostics.as_slice() else {
            panic!("{source}: {:?}", parsed.diagnostics);
        };
        assert_eq!(
            (found.severity, found.code),
            (Severity::Error, code),
            "{source}"
        );
        assert!(
            found.message.contains(message),
            "{source}: {}",
            found.message
        );
        assert_eq!(&source[found.span.start..found.span.end], at, "{source}");
        assert!(
            found.help.as_deref().unwrap_or("").contains(help),
            "{source}: {:?}",
            found.help
        );
        assert_eq!(
            found.help.is_none(),
            help.is_empty(),
            "{source}: {:?}",
            found.help
        );
        assert!(parsed.has_errors());
    }
}
