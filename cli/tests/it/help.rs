//! `--help` of every command.

use super::{golden, kiln};

/// A test for each command.
macro_rules! commands {
    ($($name:ident: $words:literal,)*) => {
        mod of {
            $(
                #[test]
                fn $name() {
                    super::check(stringify!($name), $words);
                }
            )*
        }

        const COMMANDS: &[&str] = &[$($words),*];
    };
}

commands! {
    kiln: "",
    build: "build",
    run: "run",
    pull: "pull",
    images: "images",
    tag: "tag",
    rmi: "rmi",
    history: "history",
    inspect: "inspect",
    save: "save",
    load: "load",
    import: "import",
    prune: "prune",
    system: "system",
    system_df: "system df",
    system_prune: "system prune",
    cache: "cache",
    cache_ls: "cache ls",
    cache_inspect: "cache inspect",
    cache_rm: "cache rm",
    cache_export: "cache export",
    cache_import: "cache import",
    fsck: "fsck",
    fmt: "fmt",
    explain_context: "explain-context",
    completions: "completions",
    version: "version",
    info: "info",
    image: "image",
    image_ls: "image ls",
    image_rm: "image rm",
    image_prune: "image prune",
    builder: "builder",
    builder_prune: "builder prune",
    buildx: "buildx",
    buildx_build: "buildx build",
    container: "container",
    container_run: "container run",
}

fn help(words: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = kiln(dir.path());
    let output = command
        .args(words.split_whitespace())
        .arg("--help")
        .output();
    let output = output.unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert!(!dir.path().join("store").exists(), "help needs no store");
    String::from_utf8(output.stdout).unwrap()
}

fn check(name: &str, words: &str) {
    let text = help(words);
    kiln_testkit::golden::check(&golden(&format!("help/{name}.txt")), &text);
}

/// The commands that the help of one lists.
fn listed(words: &str) -> Vec<String> {
    let text = help(words);
    let lines = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let names = names.filter(|name| *name != "help");
    names
        .map(|name| format!("{words} {name}").trim().to_owned())
        .collect()
}

#[test]
fn every_command_that_is_listed_is_here() {
    for above in ["", "system", "cache"] {
        let listed = listed(above);
        assert!(listed.len() > 1, "{above}");
        for command in listed {
            assert!(COMMANDS.contains(&command.as_str()), "{command}");
        }
    }
}
