//! Tables of files before and after.

use super::{FormatError, format, shell};

#[track_caller]
fn check(source: &str, want: &str) {
    let found = format(source).unwrap_or_else(|e| panic!("{source:?}: {e:?}"));
    assert_eq!(found, want, "{source:?}");
    assert_eq!(format(want).as_deref(), Ok(want), "again");
}

/// One instruction after `FROM x`.
#[track_caller]
fn one(source: &str, want: &str) {
    check(&format!("FROM x\n{source}"), &format!("FROM x\n{want}\n"));
}

#[test]
fn keywords_and_parts() {
    for (source, want) in [
        ("run  a  b ", "RUN a  b"),
        ("\tRun\ta", "RUN a"),
        ("from  a  as  b", "FROM a AS b"),
        ("onbuild  run  a", "ONBUILD RUN a"),
        (
            "copy  --from=a   --link  b   c  /d/",
            "COPY --from=a --link b c /d/",
        ),
        ("COPY --chown=\"a  b\"  c d", "COPY --chown=\"a  b\" c d"),
        ("RUN  --  --x  y", "RUN --  --x  y"),
        (
            "env a=b   c=\"d  e\"  f=g\\  h=i",
            "ENV a=b c=\"d  e\" f=g\\  h=i",
        ),
        ("ENV  a   b  c", "ENV a b  c"),
        ("label a=b\tc=d", "LABEL a=b c=d"),
        ("arg  a=b   c", "ARG a=b c"),
        ("ENV a=b\u{2003}c=d", "ENV a=b\u{2003}c=d"),
        ("expose  80   443", "EXPOSE 80 443"),
        ("volume  /a   /b", "VOLUME /a /b"),
        ("workdir  /a  b", "WORKDIR /a  b"),
        ("user   a", "USER a"),
        ("maintainer  a  b", "MAINTAINER a  b"),
        ("stopsignal  9", "STOPSIGNAL 9"),
        ("healthcheck  none", "HEALTHCHECK NONE"),
        (
            "healthcheck  --interval=1s   cmd  a  b",
            "HEALTHCHECK --interval=1s CMD a  b",
        ),
        ("R\\\nun a", "R\\\nUN a"),
    ] {
        one(source, want);
    }
}

#[test]
fn arrays() {
    for (source, want) in [
        ("cmd [\"a\",\"b\"]", "CMD [\"a\", \"b\"]"),
        ("CMD  [ \"a\" ,\t\"b  c\" ] ", "CMD [\"a\", \"b  c\"]"),
        ("CMD [ ]", "CMD []"),
        ("SHELL [\"sh\",\"-c\"]", "SHELL [\"sh\", \"-c\"]"),
        (
            "HEALTHCHECK cmd [\"a\",\"b\"]",
            "HEALTHCHECK CMD [\"a\", \"b\"]",
        ),
        ("COPY [\"a b\",\"c\"]", "COPY [\"a b\", \"c\"]"),
        ("VOLUME [\"/a\",\"/b\"]", "VOLUME [\"/a\", \"/b\"]"),
        (
            "CMD [ \\\n\"a\",\\\n  \"b\" \\\n  ]",
            "CMD [ \\\n    \"a\", \\\n      \"b\" \\\n]",
        ),
        (
            "CMD [\"a\"\\\n,\"b  \\\n  c\"]",
            "CMD [\"a\" \\\n    , \"b  \\\n  c\"]",
        ),
        // No array of strings, hence text for the shell.
        ("CMD [ a  ]", "CMD [ a  ]"),
    ] {
        one(source, want);
    }
}

#[test]
fn continuations() {
    for (source, want) in [
        ("RUN a && \\\nb", "RUN a && \\\n    b"),
        ("RUN a\\\n && b", "RUN a\\\n    && b"),
        ("RUN a   \\  \n\t\tb \t", "RUN a   \\\n    b"),
        (
            "RUN a; \\\n  for x; do \\\n      b; \\\n  done",
            "RUN a; \\\n    for x; do \\\n        b; \\\n    done",
        ),
        (
            "RUN a; \\\n\tif b; then \\\n\t\tc; \\\n\tfi",
            "RUN a; \\\n    if b; then \\\n        c; \\\n    fi",
        ),
        // Words that go on.
        ("RUN a\\\nb", "RUN a\\\nb"),
        ("RUN a \\\n \\\n  b", "RUN a \\\n    \\\n    b"),
        ("RUN \\\n a", "RUN \\\n    a"),
        ("RUN\\\n a", "RUN \\\n    a"),
        // In quotes every blank counts.
        (
            "RUN echo \"a \\\n  b\" \\\n  c",
            "RUN echo \"a \\\n  b\" \\\n    c",
        ),
        ("RUN echo 'a \\\n  b'", "RUN echo 'a \\\n  b'"),
        ("RUN a=${b:-c \\\n  d}", "RUN a=${b:-c \\\n  d}"),
        ("RUN a=`b \\\n  c`", "RUN a=`b \\\n  c`"),
        ("RUN a=$(b \\\n  c)", "RUN a=$(b \\\n    c)"),
        ("RUN a \"$(b \\\n  c)\"", "RUN a \"$(b \\\n  c)\""),
        ("RUN a # b \\\n  c", "RUN a # b \\\n  c"),
        ("RUN a\\ \\\n  b", "RUN a\\ \\\n    b"),
        ("RUN a\\ \\\nb", "RUN a\\ \\\nb"),
        // Comments and blank lines inside.
        (
            "RUN a \\\n# c\n   # d \\\n\n\t\n  b",
            "RUN a \\\n    # c\n    # d \\\n\n\n    b",
        ),
        ("RUN \"a \\\n # c \n b\"", "RUN \"a \\\n # c\n b\""),
        // Lists.
        (
            "ENV a=b \\\n  c=d\\\n  e=f",
            "ENV a=b \\\n    c=d \\\n    e=f",
        ),
        ("ENV a=b\\\nc d=\"e \\\n f\"", "ENV a=b\\\nc d=\"e \\\n f\""),
        ("COPY a\\\n\tb \\\n/c", "COPY a \\\n        b \\\n    /c"),
        (
            "LABEL a=b \\\n      c=d \\\n    e=f",
            "LABEL a=b \\\n      c=d \\\n    e=f",
        ),
        ("USER a \\\n  b", "USER a \\\n  b"),
        // The file ends where a line should follow.
        ("RUN a \\", "RUN a \\"),
        ("RUN a \\\n  # c", "RUN a \\\n    # c"),
        ("RUN a\\\\  ", "RUN a\\\\"),
        // What ends with a carriage return would lose it, and then the blanks before it.
        ("RUN a \r\t", "RUN a"),
        ("ENV a=b \r \r ", "ENV a=b"),
    ] {
        one(source, want);
    }
}

#[test]
fn other_shells_keep_their_blanks() {
    let text = "RUN a \\\n  b\nSHELL [\"python\", \"-c\"]\n";
    one(text, text.trim_end());
    one(
        "SHELL [\"/bin/bash\", \"-c\"]\nRUN a \\\n  b",
        "SHELL [\"/bin/bash\", \"-c\"]\nRUN a \\\n    b",
    );
    let text = "# escape=`\nFROM x\nRUN a `\n  b\n";
    check(text, text);
    check(
        "# escape=`\nFROM x\nENV a=b `\n  c=d\\\nRUN e\n",
        "# escape=`\nFROM x\nENV a=b `\n    c=d\\\nRUN e\n",
    );
}

#[test]
fn heredocs_stay() {
    for (source, want) in [
        (
            "run  <<EOF\n  a  \n\n\n\tb\r\nEOF",
            "RUN <<EOF\n  a  \n\n\n\tb\r\nEOF",
        ),
        ("RUN <<-E\n\ta\n\tE\nrun b", "RUN <<-E\n\ta\n\tE\nRUN b"),
        (
            "COPY <<a  <<b   /c/\n# d\na\n  e \\\nb\r\n",
            "COPY <<a <<b /c/\n# d\na\n  e \\\nb",
        ),
        (
            "COPY <<\"a  b\"  /c\nd\na  b\n",
            "COPY <<\"a  b\"  /c\nd\na  b",
        ),
        (
            "RUN cat <<E \\\n  > f\nx\nE",
            "RUN cat <<E \\\n    > f\nx\nE",
        ),
        ("RUN <<E\nE", "RUN <<E\nE"),
    ] {
        one(source, want);
    }
}

#[test]
fn lines_of_a_file() {
    for (source, want) in [
        ("FROM x", "FROM x\n"),
        ("\n\n  \nFROM x\n\n\n\nRUN a\n\n\n", "FROM x\n\nRUN a\n"),
        (
            "FROM x\r\n\r\nRUN a \\\r\n  b\r\n",
            "FROM x\n\nRUN a \\\n    b\n",
        ),
        (
            "  # a  \n\n\n#b\nFROM x\n # c\n\n\n# d",
            "# a\n\n#b\nFROM x\n# c\n\n# d\n",
        ),
        (
            "\u{feff}#  syntax = a  \nFROM x",
            "\u{feff}#  syntax = a\nFROM x\n",
        ),
        ("\u{feff}\n\nFROM x", "\u{feff}FROM x\n"),
        // Whether these are directives depends on what is above them.
        ("\n\n# escape=`\nFROM x", "\n# escape=`\nFROM x\n"),
        ("\n# a\n# escape=`\nFROM x", "# a\n# escape=`\nFROM x\n"),
        ("  #!a\n# syntax=b\nFROM x", "  #!a\n# syntax=b\nFROM x\n"),
        ("\n#!a\n# syntax=b\nFROM x", "\n#!a\n# syntax=b\nFROM x\n"),
        ("#!a \n# syntax=b\nFROM x", "#!a\n# syntax=b\nFROM x\n"),
        ("FROM x\n\\\n  RUN a", "FROM x\n\\\n  RUN a\n"),
    ] {
        check(source, want);
    }
}

#[test]
fn files_with_errors_are_refused() {
    for source in [
        "",
        "# only",
        "FROM x\nRUN []",
        "FROM x\nRUNN a",
        "FROM x\nRUN <<E\n",
    ] {
        let found = format(source);
        assert!(
            matches!(&found, Err(FormatError::Invalid(list)) if !list.is_empty()),
            "{source}"
        );
    }
}

#[test]
fn separators_of_commands() {
    // What is found is shown as `_`.
    for (command, want) in [
        ("a  b\tc", "a__b_c"),
        ("a 'b c' \"d e\" f", "a_'b c'_\"d e\"_f"),
        ("a\\ b c", "a\\ b_c"),
        ("\"a\\\" b\" c", "\"a\\\" b\"_c"),
        ("(a b) c", "(a_b)_c"),
        ("a $(b c) d", "a_$(b_c)_d"),
        ("a \"$(b \"c d\" e)\" f", "a_\"$(b \"c d\" e)\"_f"),
        ("a ${b:-c d} e", "a_${b:-c d}_e"),
        ("a ${b:-\"c d\"} e", "a_${b:-\"c d\"}_e"),
        ("a `b \\` c` d", "a_`b \\` c`_d"),
        ("a $((1 + (2))) b", "a_$((1_+_(2)))_b"),
        ("a # b c", "a_# b c"),
        ("a#b c", "a#b_c"),
        ("a 'b c", "a_'b c"),
        ("a $'b c' d", "a_$'b c' d"),
        ("a ${b:-'c d'} e", "a_${b:-'c d'} e"),
        ("[[ a =~ (b c) ]]", "[[_a_=~ (b c) ]]"),
        ("a @(b c) d", "a_@(b c) d"),
        ("$(case a in b) c;; esac) d", "$(case a in b) c;; esac) d"),
        ("case a in b) c  d;; esac", "case_a_in_b)_c__d;;_esac"),
    ] {
        let mut shown = command.as_bytes().to_vec();
        for blanks in shell::separators(command) {
            shown[blanks].fill(b'_');
        }
        assert_eq!(String::from_utf8_lossy(&shown), want);
    }
}
