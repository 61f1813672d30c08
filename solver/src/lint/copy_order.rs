//! Dependencies that are installed after everything was copied.
//!
//! Whoever copies the whole context first and then installs what a manifest lists, installs again
//! after every change of any file. The rule speaks only where all of this is certain: one COPY takes
//! the whole context to the working directory, the next RUN does nothing but install, the tool is one
//! that reads nothing but its manifests then, and the manifests were read here and ask for nothing
//! else.

use kiln_parser::{Instruction, Kind, SourceArg, Transfer};

use super::{ContextFiles, Findings, Location, Rule, shell};

/// Checks the instructions of a stage.
pub(crate) fn check_order_of_copies(stage: &[Instruction], findings: &Findings) {
    let Some(context) = findings.context() else {
        return;
    };
    let mut workdir = String::new();
    for (at, instruction) in stage.iter().enumerate() {
        match &instruction.kind {
            Kind::Workdir(path) => workdir.clone_from(&path.value),
            Kind::Copy(transfer) if takes_all(instruction, transfer) => {
                let Some(manifests) = installed_next(&stage[at + 1..], transfer, &workdir, context)
                else {
                    continue;
                };
                let others = context.names();
                let others = others.iter().filter(|name| {
                    let name = name.as_str();
                    !manifests.iter().any(|m| m == name) && !is_of_the_build(name)
                });
                if others.count() == 0 {
                    continue;
                }
                let spot = Location {
                    about: instruction.span,
                    trigger: false,
                };
                let detail = format!(
                    "the next RUN reads only {} of what is copied here, and runs again after any \
                     change of the context; copy these first, and the rest after that RUN",
                    list(&manifests)
                );
                let place = spot.at(instruction.keyword.span);
                findings.report(Rule::KilnCopyBeforeInstall, place, detail);
            }
            _ => {}
        }
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}

/// Files that are about the build itself.
fn is_of_the_build(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower.contains("dockerfile") || lower == "containerfile" || lower == ".dockerignore"
}

/// Whether a COPY takes the main context as a whole.
fn takes_all(instruction: &Instruction, transfer: &Transfer) -> bool {
    let chooses = ["from", "exclude", "parents"];
    let flags = instruction.flags.iter();
    let chosen = flags
        .map(|f| f.name.value.as_str())
        .any(|f| chooses.contains(&f));
    let all = matches!(
        transfer.sources.as_slice(),
        [SourceArg::Path(path)] if matches!(path.value.as_str(), "." | "./" | "/")
    );
    all && !chosen
}

/// The manifests that the next RUN reads, if it does nothing but install and works where the files
/// were copied to.
fn installed_next(
    rest: &[Instruction],
    transfer: &Transfer,
    workdir: &str,
    context: &dyn ContextFiles,
) -> Option<Vec<String>> {
    let dest = transfer.dest.value.trim_end_matches('/');
    let mut here = matches!(transfer.dest.value.as_str(), "." | "./") || same(dest, workdir);
    for instruction in rest {
        match &instruction.kind {
            Kind::Run(command) => {
                if !here {
                    return None;
                }
                let commands = shell::commands(shell::script(command)?)?;
                let mut manifests = Vec::new();
                for words in &commands {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    for name in manifests_of(&words, context)? {
                        if !manifests.contains(&name) {
                            manifests.push(name);
                        }
                    }
                }
                return Some(manifests).filter(|m| !m.is_empty());
            }
            Kind::Workdir(path) => here = same(dest, &path.value),
            Kind::Copy(_) | Kind::Add(_) | Kind::Shell(_) | Kind::Onbuild { .. } => return None,
            _ => {}
        }
    }
    None
}

fn same(dest: &str, workdir: &str) -> bool {
    dest.starts_with('/') && dest == workdir.trim_end_matches('/')
}

/// What one command reads of the context; none where that is not certain.
fn manifests_of(words: &[&str], context: &dyn ContextFiles) -> Option<Vec<String>> {
    if words.iter().any(|w| w.contains(['$', '`', '*', '<', '>'])) {
        return None;
    }
    match words {
        ["set", flags @ ..] => flags.iter().all(|f| f.starts_with('-')).then(Vec::new),
        ["true" | ":"] => Some(Vec::new()),
        ["npm", "ci" | "install" | "i" | "clean-install", flags @ ..] => npm(flags, context),
        ["pip" | "pip3", "install", args @ ..]
        | ["python" | "python3", "-m", "pip", "install", args @ ..] => pip(args, context),
        ["go", "mod", "download"] | ["go", "mod", "download", "-x"] => go(context),
        _ => None,
    }
}

/// Those of `names` that the context has.
fn present(names: &[&str], context: &dyn ContextFiles) -> Vec<String> {
    let all = context.names();
    let there = |name: &&&str| all.iter().any(|n| n == **name);
    names
        .iter()
        .filter(there)
        .map(ToString::to_string)
        .collect()
}

fn npm(flags: &[&str], context: &dyn ContextFiles) -> Option<Vec<String>> {
    let elsewhere = [
        "--prefix",
        "--global",
        "--workspace",
        "--include-workspace-root",
    ];
    let plain = |flag: &&str| {
        flag.starts_with("--") && !elsewhere.iter().any(|other| flag.starts_with(other))
    };
    if !flags.iter().all(plain) || context.names().iter().any(|n| n == "binding.gyp") {
        return None;
    }
    let text = context.read("package.json")?;
    let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
    // Scripts of the package itself run on an installation, and may read anything.
    const HOOKS: [&str; 8] = [
        "preinstall",
        "install",
        "postinstall",
        "prepublish",
        "preprepare",
        "prepare",
        "postprepare",
        "dependencies",
    ];
    let runs_scripts = HOOKS
        .iter()
        .any(|hook| manifest["scripts"].get(hook).is_some());
    if runs_scripts && !flags.contains(&"--ignore-scripts") {
        return None;
    }
    if manifest.get("workspaces").is_some() {
        return None;
    }
    const LISTS: [&str; 4] = [
        "dependencies",
        "devDependencies",
        "optionalDependencies",
        "peerDependencies",
    ];
    for list in LISTS {
        let Some(versions) = manifest.get(list) else {
            continue;
        };
        let local = |v: &serde_json::Value| {
            let version = v.as_str().unwrap_or("file:");
            ["file:", "link:", "workspace:", ".", "/", "~/"]
                .iter()
                .any(|start| version.starts_with(start))
        };
        if versions.as_object()?.values().any(local) {
            return None;
        }
    }
    let names = [
        "package.json",
        "package-lock.json",
        "npm-shrinkwrap.json",
        ".npmrc",
    ];
    Some(present(&names, context))
}

fn pip(args: &[&str], context: &dyn ContextFiles) -> Option<Vec<String>> {
    const FLAGS: [&str; 15] = [
        "--no-cache-dir",
        "--upgrade",
        "-U",
        "--quiet",
        "-q",
        "--user",
        "--no-deps",
        "--pre",
        "--require-hashes",
        "--disable-pip-version-check",
        "--no-input",
        "--prefer-binary",
        "--no-warn-script-location",
        "--root-user-action=ignore",
        "--break-system-packages",
    ];
    let mut files = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "-r" | "--requirement" => files.push(super::files::clean(args.next()?)),
            arg if FLAGS.contains(&arg) => {}
            _ => return None,
        }
    }
    for file in &files {
        let text = context.read(file)?;
        let local = |line: &str| {
            let line = line.split('#').next().unwrap_or_default();
            let line = line.trim().trim_end_matches('\\');
            // Options may name further files; only hashes and names of packages are certain.
            line.starts_with(['-', '.'])
                || line.contains("file:")
                || (line.contains('/') && !line.contains("://"))
        };
        let hash = |line: &str| line.trim().starts_with("--hash=");
        if text.lines().any(|line| local(line) && !hash(line)) {
            return None;
        }
    }
    Some(files)
}

fn go(context: &dyn ContextFiles) -> Option<Vec<String>> {
    let text = context.read("go.mod")?;
    let local = |line: &str| {
        let target = line
            .split_once("=>")
            .map_or("", |(_, target)| target.trim());
        target.starts_with(['.', '/'])
    };
    if text.lines().any(local) || context.names().iter().any(|n| n == "go.work") {
        return None;
    }
    Some(present(&["go.mod", "go.sum"], context))
}
