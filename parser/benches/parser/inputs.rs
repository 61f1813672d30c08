//! Texts of any size that are ordinary, or that are hard on a parser. The benchmark and a test
//! share them.

/// What the text is, and how it is made in a size.
pub(crate) type Input = (&'static str, fn(usize) -> String);

/// Repeats `unit` up to a size.
fn fill(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len())
}

/// A file whose second instruction begins with `head` and goes on with as many `unit`s.
fn from_and(head: &str, unit: &str, size: usize) -> String {
    format!("FROM x\n{head}{}", fill(unit, size))
}

/// Words that `make` numbers, up to a size.
fn numbered(size: usize, make: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(size + 64);
    let mut n = 0;
    while text.len() < size {
        text.push_str(&make(n));
        n += 1;
    }
    text
}

const ORDINARY: &str = r#"# The tools that the build needs
FROM --platform=$BUILDPLATFORM docker.io/library/debian:bookworm AS build
ARG VERSION=1.2.3 TARGETARCH
ENV PATH="/opt/tool/bin:$PATH" \
    LANG=C.UTF-8
RUN --mount=type=cache,target=/var/cache/apt \
    apt-get update && apt-get install -y --no-install-recommends \
      build-essential \
      # for the documentation
      pandoc \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY --chown=1000:1000 --link go.mod go.sum ./
RUN <<EOF
set -e
make "VERSION=${VERSION}" all
EOF
COPY --from=build ["/src/out", "/usr/local/bin/"]
EXPOSE 80/tcp 443
LABEL org.opencontainers.image.title="a tool" org.opencontainers.image.version=$VERSION
HEALTHCHECK --interval=30s CMD ["tool", "--check"]
ENTRYPOINT ["/usr/local/bin/tool"]

"#;

/// Dockerfiles, good and bad.
pub(crate) const DOCKERFILES: &[Input] = &[
    ("ordinary", |n| fill(ORDINARY, n)),
    ("one long line", |n| from_and("RUN ", "a", n)),
    ("one long line of words", |n| from_and("RUN ", "a ", n)),
    ("no line at all", |n| fill("a", n)),
    ("tiny instructions", |n| from_and("", "CMD a\n", n)),
    ("tiny stages", |n| fill("FROM a\n", n)),
    ("tiny triggers", |n| from_and("", "ONBUILD RUN a\n", n)),
    ("unknown instructions", |n| from_and("", "a\n", n)),
    ("empty instructions", |n| from_and("", "RUN\n", n)),
    ("misplaced instructions", |n| fill("RUN a\n", n)),
    ("blank lines", |n| from_and("", "\n", n)),
    ("lines of spaces", |n| from_and("", "   \n", n)),
    ("comments", |n| from_and("", "# c\n", n)),
    ("empty comments", |n| from_and("", "#\n", n)),
    ("comments in a continuation", |n| {
        from_and("RUN a \\\n", "# c\n", n)
    }),
    ("continuations", |n| from_and("RUN ", "a \\\n", n)),
    ("empty continuations", |n| from_and("RUN ", "\\\n", n)),
    ("blank continuations", |n| from_and("RUN ", "\\\n\n", n)),
    ("continued pairs", |n| from_and("ENV ", "a=b \\\n", n)),
    ("continued in a name", |n| {
        from_and("ENV ", "a\\\na=b\\\nb ", n)
    }),
    ("continued instructions", |n| from_and("", "CM\\\nD a\n", n)),
    ("small heredocs", |n| from_and("", "RUN <<E\nE\n", n)),
    ("quoted heredocs", |n| from_and("", "RUN <<'E'\nE\n", n)),
    ("heredocs beside words", |n| {
        from_and("", "RUN a \"b\" <<E ${c}\nE\n", n)
    }),
    ("one huge heredoc", |n| {
        format!("FROM x\nRUN <<E\n{}E\n", fill("some text\n", n))
    }),
    ("one heredoc of empty lines", |n| {
        format!("FROM x\nRUN <<E\n{}E\n", fill("\n", n))
    }),
    ("one heredoc of tabs", |n| {
        format!("FROM x\nRUN <<-E\n{}E\n", fill("\t\tx\n", n))
    }),
    ("many openings", |n| {
        let openings = numbered(n / 2, |i| format!(" <<n{i}"));
        let ends = numbered(n / 2, |i| format!("n{i}\n"));
        format!("FROM x\nCOPY{openings} /x\n{ends}")
    }),
    ("openings of one name", |n| {
        let count = n / 8;
        let openings = "<<a ".repeat(count);
        let ends = "a\n".repeat(count - 1);
        let text = "x".repeat(n / 4);
        format!("FROM x\nCOPY {openings}/x\n{ends}{text}\na\n")
    }),
    ("unterminated heredocs", |n| from_and("", "RUN <<E\n", n)),
    ("unterminated openings", |n| from_and("RUN", " <<E", n)),
    ("openings in substitutions", |n| {
        from_and("RUN <<E ", "${a:-<<E} ", n)
    }),
    ("nested substitutions", |n| {
        let (open, close) = ("${a:-".repeat(60), "}".repeat(60));
        format!("FROM x\nRUN <<E {open}{}{close}\nE\n", "b".repeat(n))
    }),
    ("open substitutions", |n| from_and("RUN <<E ", "${a:-", n)),
    ("names beside a heredoc", |n| {
        let names = numbered(n, |i| format!("${{a{i}}}"));
        format!("FROM x\nRUN <<E {names}\nE\n")
    }),
    ("one array", |n| {
        format!("FROM x\nCMD [{}\"\"]", fill("\"a\",", n))
    }),
    ("one array of empty strings", |n| {
        format!("FROM x\nCMD [{}\"\"]", fill("\"\",", n))
    }),
    ("one array of escapes", |n| {
        format!("FROM x\nCMD [\"{}\"]", fill("\\u0041\\n", n))
    }),
    ("small arrays", |n| from_and("", "CMD [\"a\"]\n", n)),
    ("nested arrays", |n| from_and("CMD ", "[", n)),
    ("arrays in an array", |n| {
        format!("FROM x\nCMD [{}\"\"]", fill("[\"a\"],", n))
    }),
    ("an open array", |n| from_and("CMD [", "\"a\",", n)),
    ("broken arrays", |n| from_and("", "CMD [\"a\n", n)),
    ("pairs", |n| from_and("ENV ", "a=b ", n)),
    ("empty pairs", |n| from_and("ENV ", "a= ", n)),
    ("quoted pairs", |n| from_and("LABEL ", "a=\"b c\" ", n)),
    ("an old pair", |n| from_and("ENV a ", "b ", n)),
    ("arguments", |n| from_and("ARG ", "a ", n)),
    ("quotes", |n| from_and("ENV a=", "'\"\"' ", n)),
    ("open quotes", |n| from_and("ENV ", "a=\"b", n)),
    ("escapes", |n| from_and("ENV a=", "\\ ", n)),
    ("backslashes", |n| fill("\\", n)),
    ("carriage returns", |n| fill("\r", n)),
    ("sources", |n| from_and("COPY ", "a ", n)),
    ("ports", |n| from_and("EXPOSE ", "1 ", n)),
    ("volumes", |n| from_and("VOLUME ", "a ", n)),
    ("flags", |n| from_and("COPY ", "--exclude=a ", n)),
    ("quoted flags", |n| from_and("COPY ", "--exclude=\"a\" ", n)),
    ("flags given twice", |n| from_and("COPY ", "--from=a ", n)),
    ("unknown flags", |n| from_and("COPY ", "--a ", n)),
    ("flags of many instructions", |n| {
        from_and("", "COPY --link a b\n", n)
    }),
    ("mounts", |n| {
        from_and("", "RUN --mount=type=cache,target=/a b\n", n)
    }),
    ("wide spaces", |n| from_and("ENV ", "a=b\u{2003}", n)),
];

/// Words to expand; `$a` is set, `$big` is large.
pub(crate) const WORDS: &[Input] = &[
    ("plain text", |n| fill("a", n)),
    ("plain words", |n| fill("a ", n)),
    ("one name", |n| fill("${a}", n)),
    ("many names", |n| numbered(n, |i| format!("$n{i} "))),
    ("defaults", |n| fill("${b:-c}", n)),
    ("prefixes", |n| fill("${a#*/}", n)),
    ("suffixes", |n| fill("${a%%/*}", n)),
    ("replacements", |n| fill("${a//l/m}", n)),
    ("a long pattern", |n| format!("${{a#{}}}", fill("*a?", n))),
    ("a long pattern on a long text", |n| {
        format!("${{big##{}}}", fill("*a?", n))
    }),
    ("a long replacement", |n| {
        format!("${{big//?/{}}}", fill("a", n))
    }),
    ("a large value", |n| fill("$big", n)),
    ("cuts of a large value", |n| fill("${big##*}", n)),
    ("nested", |n| {
        let (open, close) = ("${b:-".repeat(60), "}".repeat(60));
        format!("{open}{}{close}", fill("a ", n))
    }),
    ("too deep", |n| fill("${b:-", n)),
    ("quotes", |n| fill("'a'\"b\"", n)),
    ("empty quotes", |n| fill("''", n)),
    ("escapes", |n| fill("\\a", n)),
    ("dollars", |n| fill("$", n)),
    ("open quotes", |n| format!("a\"{}", fill("$a", n))),
];

/// Ignore files.
pub(crate) const IGNORES: &[Input] = &[
    ("names", |n| fill("a\n", n)),
    ("endings", |n| fill("*.a\n", n)),
    ("endings anywhere", |n| fill("**/*.a\n", n)),
    ("exceptions", |n| fill("*\n!a?b\n", n)),
    ("classes", |n| fill("[a-z]b\n", n)),
    ("comments", |n| fill("# c\n", n)),
    ("blank lines", |n| fill("\n", n)),
    ("one name", |n| fill("a/", n)),
    ("one way up", |n| fill("a/../", n)),
    ("one pattern", |n| fill("*a", n)),
    ("one pattern of directories", |n| fill("**/", n) + "a"),
    ("one class", |n| format!("[{}]", fill("a-b", n))),
];
