//! kiln's own rules, and those that look at the context.

use super::{Fake, check, shown, token};

/// A Dockerfile, its ignore file, the other files of its context, and the findings.
type WithFiles = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

#[track_caller]
fn all_with_files(cases: &[WithFiles], options: &str) {
    for (text, ignore, files, want) in cases {
        let (findings, _) = check(text, "", Some(options), Some(Fake::context(ignore, files)));
        assert_eq!(shown(text, &findings), *want, "{text}\nin {files:?}");
    }
}

#[test]
fn files_that_are_left_out_are_not_copied() {
    let file = &[("a", "")];
    all_with_files(
        &[
            (
                "FROM busybox\nCOPY a /a\n",
                "a\n",
                file,
                "CopyIgnoredFile 2",
            ),
            ("FROM busybox\nCOPY a /a\n", "b\n", file, ""),
            ("FROM busybox\nCOPY a /a\n", "", file, ""),
            (
                "FROM busybox\nCOPY d/a /a\n",
                "d\n",
                file,
                "CopyIgnoredFile 2",
            ),
            (
                "FROM busybox\nCOPY d/ /a/\n",
                "d\n",
                file,
                "CopyIgnoredFile 2",
            ),
            ("FROM busybox\nCOPY . /a\n", "d\n", file, ""),
            (
                "FROM busybox\nCOPY *.txt /a\n",
                "*.txt\n",
                file,
                "CopyIgnoredFile 2",
            ),
            ("FROM busybox\nCOPY *.txt /a\n", "a.txt\n", file, ""),
            (
                "FROM busybox\nCOPY a b /a/\n",
                "*\n!b\n",
                file,
                "CopyIgnoredFile 2",
            ),
            ("FROM busybox\nCOPY d /a/\n", "d\n!d/keep\n", file, ""),
            (
                "FROM busybox\nADD a /a/\nADD https://example.com/a /b\n",
                "a\n",
                file,
                "CopyIgnoredFile 2",
            ),
            (
                "FROM busybox AS x\nFROM busybox\nCOPY --from=x /a /a\n",
                "a\n",
                file,
                "",
            ),
            (
                "FROM busybox\nARG f=a\nCOPY $f /a\n",
                "a\n",
                file,
                "CopyIgnoredFile 3",
            ),
            (
                "FROM busybox\nCOPY a b c /a/\n",
                "a\nb\n",
                file,
                "CopyIgnoredFile 2, CopyIgnoredFile 2",
            ),
            (
                "FROM busybox\nCOPY d/e/f /a/\n",
                "**/f\n",
                file,
                "CopyIgnoredFile 2",
            ),
            // A slash in front stays there, and what is above it has an empty name.
            (
                "FROM busybox\nCOPY /d/a /a\nADD /d/a /b\nCOPY /a /c\n",
                "*\n",
                file,
                "CopyIgnoredFile 2, CopyIgnoredFile 3, CopyIgnoredFile 4",
            ),
            (
                "FROM busybox\nCOPY /d/a /a\n",
                "**/d\n",
                file,
                "CopyIgnoredFile 2",
            ),
            ("FROM busybox\nCOPY /d/a /a\n", "d\n", file, ""),
            (
                "FROM busybox\nCOPY x/../a /a\n",
                "a\n",
                file,
                "CopyIgnoredFile 2",
            ),
        ],
        "experimental=CopyIgnoredFile",
    );
    let off = [("FROM busybox\nCOPY a /a\n", "a\n", &file[..], "")];
    all_with_files(&off, "");
}

#[test]
fn package_lists_do_not_stay_in_layers() {
    let found = "KilnAptListsInLayer 2";
    for (run, want) in [
        ("RUN apt-get update && apt-get install -y git", found),
        ("RUN apt-get -qq -o Acquire::Retries=3 update", found),
        (
            "RUN set -e; DEBIAN_FRONTEND=noninteractive apt update",
            found,
        ),
        (
            "RUN apt-get update && apt-get install -y linux-headers-$(uname -r)",
            found,
        ),
        ("RUN if true; then apt-get update; fi", found),
        (
            "RUN apt-get update && apt-get install -y git && apt-get clean",
            found,
        ),
        (
            "RUN --mount=type=cache,target=/var/cache/apt apt-get update",
            found,
        ),
        (
            "RUN apt-get update && apt-get install -y git && rm -rf /var/lib/apt/lists/*",
            "",
        ),
        ("RUN apt-get update && rm -rf /var/lib/{apt,dpkg}/x", ""),
        (
            "RUN apt-get update && cd /var/lib/apt/lists && rm -rf *",
            "",
        ),
        ("RUN apt-get update && apt-get distclean", ""),
        (
            "RUN --mount=type=cache,target=/var/lib/apt/lists apt-get update",
            "",
        ),
        (
            "RUN --mount=type=cache,target=/var/lib/apt apt-get update",
            "",
        ),
        (
            "RUN --mount=type=tmpfs,target=/var/lib/apt/lists/ apt-get update",
            "",
        ),
        ("RUN apt-get install -y git", ""),
        ("RUN echo apt-get update", ""),
        ("RUN echo 'x && apt-get update'", ""),
        ("RUN [\"apt-get\", \"update\"]", ""),
        ("RUN apk update", ""),
        ("RUN ./apt-get-update.sh", ""),
    ] {
        let text = format!("FROM busybox\n{run}\n");
        let (findings, _) = check(&text, "", None, None);
        assert_eq!(shown(&text, &findings), want, "{text}");
    }
    for (text, want) in [
        // Only layers that are in the image count.
        (
            "FROM busybox AS b\nRUN apt-get update\nFROM busybox\nCOPY --from=b /x /x\n",
            "",
        ),
        (
            "FROM busybox AS b\nRUN apt-get update\nFROM b\nRUN x\n",
            found,
        ),
        (
            "FROM busybox\nRUN <<EOF\napt-get update\napt-get install -y git\nEOF\n",
            "KilnAptListsInLayer 2-5",
        ),
        (
            "FROM busybox\nRUN <<EOF\napt-get update\nrm -r /var/lib/apt/lists\nEOF\n",
            "",
        ),
        (
            "FROM busybox\nRUN cat <<EOF > /x\napt-get update\nEOF\n",
            "",
        ),
        (
            "FROM busybox\nRUN <<EOF\n#!/usr/bin/env python3\napt-get update\nEOF\n",
            "",
        ),
    ] {
        let (findings, _) = check(text, "", None, None);
        assert_eq!(shown(text, &findings), want, "{text}");
    }
}

const PACKAGE: &str = r#"{"scripts": {"test": "x"}, "dependencies": {"left-pad": "^1.0.0"}}"#;
const NPM: &[(&str, &str)] = &[
    ("package.json", PACKAGE),
    ("package-lock.json", "{}"),
    ("src/a.js", ""),
];

#[test]
fn dependencies_are_installed_before_the_rest_is_copied() {
    let found = "KilnCopyBeforeInstall 3";
    let rows: &[WithFiles] = &[
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "",
            NPM,
            found,
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . ./\nENV A=b\nRUN set -e; npm install --omit=dev\n",
            "",
            NPM,
            found,
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . /app/\nRUN npm ci\n",
            "",
            NPM,
            found,
        ),
        (
            "FROM busybox\nRUN x\nCOPY . /app\nWORKDIR /app\nRUN npm ci\n",
            "",
            NPM,
            found,
        ),
        // Copied in the right order.
        (
            "FROM busybox\nWORKDIR /app\nCOPY package*.json .\nRUN npm ci\nCOPY . .\nRUN npm test\n",
            "",
            NPM,
            "",
        ),
        // More than an installation.
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci && npm run build\n",
            "",
            NPM,
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm install .\n",
            "",
            NPM,
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci --prefix web\n",
            "",
            NPM,
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN cd web && npm ci\n",
            "",
            NPM,
            "",
        ),
        // Somewhere else.
        (
            "FROM busybox\nWORKDIR /app\nCOPY . /src\nRUN npm ci\n",
            "",
            NPM,
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nWORKDIR web\nRUN npm ci\n",
            "",
            NPM,
            "",
        ),
        // Not everything.
        (
            "FROM busybox\nWORKDIR /app\nCOPY src .\nRUN npm ci\n",
            "",
            NPM,
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY --exclude=src . .\nRUN npm ci\n",
            "",
            NPM,
            "",
        ),
        (
            "FROM busybox AS a\nFROM busybox\nCOPY --from=a . .\nRUN npm ci\n",
            "",
            NPM,
            "",
        ),
        // Nothing else is there.
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "src\n",
            &[
                ("package.json", PACKAGE),
                ("Dockerfile", ""),
                (".dockerignore", ""),
            ],
            "",
        ),
        // What the package says may read anything.
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "",
            &[
                ("package.json", r#"{"scripts": {"prepare": "tsc"}}"#),
                ("a.ts", ""),
            ],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci --ignore-scripts\n",
            "",
            &[
                ("package.json", r#"{"scripts": {"prepare": "tsc"}}"#),
                ("a.ts", ""),
            ],
            found,
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "",
            &[
                ("package.json", r#"{"dependencies": {"x": "file:lib"}}"#),
                ("lib/a", ""),
            ],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "",
            &[
                ("package.json", r#"{"workspaces": ["a"]}"#),
                ("a/package.json", ""),
            ],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "",
            &[("package.json", PACKAGE), ("binding.gyp", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN npm ci\n",
            "",
            &[("a", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN pip install --no-cache-dir -r requirements.txt\n",
            "",
            &[
                (
                    "requirements.txt",
                    "# web\nflask==3.0 \\\n    --hash=sha256:00\nx @ https://example.com/x.whl\n",
                ),
                ("app.py", ""),
            ],
            found,
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n",
            "",
            &[("requirements.txt", "-e .\n"), ("app.py", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n",
            "",
            &[("requirements.txt", "-r more.txt\n"), ("app.py", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n",
            "",
            &[("requirements.txt", "./lib\n"), ("app.py", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN pip install .\n",
            "",
            &[("requirements.txt", ""), ("app.py", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN go mod download\n",
            "",
            &[
                ("go.mod", "module x\nreplace a => b v1\n"),
                ("go.sum", ""),
                ("main.go", ""),
            ],
            found,
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN go mod download\n",
            "",
            &[("go.mod", "module x\nreplace a => ./a\n"), ("main.go", "")],
            "",
        ),
        (
            "FROM busybox\nWORKDIR /app\nCOPY . .\nRUN go build ./...\n",
            "",
            &[("go.mod", "module x\n"), ("main.go", "")],
            "",
        ),
    ];
    all_with_files(rows, "");
    all_with_files(&[(rows[0].0, "", NPM, "")], "skip=KilnCopyBeforeInstall");
}

#[test]
fn values_that_look_like_secrets_are_reported_wherever_they_are() {
    let token = token();
    for (text, want) in [
        (
            format!("ARG X={token}\nFROM busybox\n"),
            "KilnSecretValue 1",
        ),
        (
            format!("FROM busybox\nENV A=1 B=\"https://u:{token}@h/\"\n"),
            "KilnSecretValue 2",
        ),
        (
            format!("FROM busybox\nENV A {token}\n"),
            "KilnSecretValue 2, LegacyKeyValueFormat 2",
        ),
        (format!("FROM busybox\nLABEL a={token}\n"), ""),
        ("FROM busybox\nENV A=ghp_token\n".to_owned(), ""),
    ] {
        let (findings, _) = check(&text, "", None, None);
        assert_eq!(shown(&text, &findings), want, "{text}");
    }
}
