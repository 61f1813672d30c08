//! What errors look like: exit code and standard error of commands that fail, for root and for others.

use super::{golden, kiln};

/// A test for each error: a command line, and the text of the Dockerfile.
macro_rules! errors {
    ($($name:ident: [$($word:literal),*] $dockerfile:literal,)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name), &[$($word),*], $dockerfile);
            }
        )*
    };
}

errors! {
    command_unknown: ["biuld", "."] "",
    command_of_docker: ["swarm", "init"] "",
    option_unknown: ["build", "--tga", "web", "."] "",
    option_value: ["run", "--memory", "much", "busybox"] "",
    argument_missing: ["tag", "web"] "",
    size: ["prune", "--keep-storage", "lots"] "",
    filter: ["images", "--filter", "color=red"] "",
    template: ["images", "--format", "{{.Nope}"] "",
    output: ["build", "--check", "-o", "type=nonsense", "."] "FROM scratch\n",
    output_pushed: ["build", "--check", "-o", "type=image,compression=zstd", "."] "FROM scratch\n",
    shell: ["completions", "csh"] "",
    settings: ["--config", "bad.toml", "images"] "",
    image: ["inspect", "web"] "",
    image_to_remove: ["rmi", "web"] "",
    image_name: ["tag", "web", "Web"] "",
    mount: ["cache", "inspect", "packages"] "",
    archive_missing: ["load", "-i", "web.tar"] "",
    archive: ["load", "-i", "Dockerfile"] "FROM scratch\n",
    context: ["build", "--check", "nowhere"] "",
    dockerfile: ["build", "--check", "-f", "web.Dockerfile", "."] "",
    instruction: ["build", "--check", "."] "FROM scratch\nCOPPY a b\n",
    flag: ["build", "--check", "."] "FROM scratch\nCOPY --chwon=1 a b\n",
    mount_type: ["build", "--check", "."] "FROM scratch\nRUN --mount=type=bnid,target=/a x\n",
    heredoc: ["build", "--check", "."] "FROM scratch\nRUN <<EOF\necho x\n",
    several: ["build", "--check", "."] "FROM scratch AS\nENV a\nEXPOSE x/y\nCMD [\"a\", b]\n",
    no_stage: ["build", "--check", "."] "RUN x\n",
    format: ["fmt", "--check", "Dockerfile"] "from scratch\n",
}

fn check(name: &str, words: &[&str], dockerfile: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(dir.join("bad.toml"), "[gc]\nmax-siez = \"1GB\"\n").unwrap();
    let output = kiln(dir).args(words).output().unwrap();
    let code = output.status.code().unwrap();
    assert!(code == 1 || code == 2, "{output:?}");
    let place = dir.to_str().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(place, "[DIR]");
    let (out, err) = (text(output.stdout), text(output.stderr));
    let text = format!("$ kiln {}\n{out}{err}exit code {code}\n", words.join(" "));
    kiln_testkit::golden::check(&golden(&format!("errors/{name}.txt")), &text);
}
