//! Other programs that read what kiln writes.

use std::ffi::OsStr;
use std::process::Command;

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
