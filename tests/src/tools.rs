//! Other programs that read what kiln writes.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Output of a program, which must succeed.
pub fn tool<I, S>(program: &str, arguments: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments);
    let out = command
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// `skopeo inspect --config` of an archive, a layout or an image in a registry.
#[must_use]
pub fn skopeo_inspect(source: &str) -> serde_json::Value {
    let text = tool(
        "skopeo",
        ["inspect", "--tls-verify=false", "--config", "--raw", source],
    );
    serde_json::from_str(&text).unwrap()
}

/// Whether any regular file at or below `place` has these bytes in it.
#[must_use]
pub fn holds(place: &std::path::Path, bytes: &[u8]) -> bool {
    // What is removed meanwhile holds nothing.
    let Ok(metadata) = std::fs::symlink_metadata(place) else {
        return false;
    };
    if metadata.is_dir() {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        return entries.map(|e| e.path()).any(|p| holds(&p, bytes));
    }
    metadata.is_file()
        && std::fs::read(place).is_ok_and(|all| all.windows(bytes.len()).any(|w| w == bytes))
}

/// `sha256:` and the digest of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let sum = piped("sha256sum", &[], bytes);
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

/// These bytes in base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    piped("base64", &["-w0"], bytes)
}

fn piped(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}
