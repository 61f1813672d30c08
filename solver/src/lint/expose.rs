//! Ports of `EXPOSE`.

use super::{At, Findings, Rule};

/// Checks a port as it is after expansion: `mapped` tells that it names an address or a port of
/// the host.
pub(crate) fn check(word: &str, protocol: &str, mapped: bool, at: At, findings: &Findings) {
    if protocol.to_lowercase() != protocol {
        let detail = format!("the protocol of port `{word}` should be in lower case");
        findings.report(Rule::ExposeProtoCasing, at, detail);
    }
    if mapped {
        let detail = format!(
            "`{word}` names an address or a port of the host, which only `run` can publish"
        );
        findings.report(Rule::ExposeInvalidFormat, at, detail);
    }
}
