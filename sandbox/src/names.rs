//! `/etc/resolv.conf` and `/etc/hosts` of a sandbox.

use std::fmt::Write as _;

/// The resolver configuration of a sandbox that shares the host's connectivity: the host's own
/// lines, and public servers where it has none.
pub fn resolv_conf(host: &str) -> String {
    let mut out = String::new();
    for line in host.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if matches!(
            word,
            "nameserver" | "search" | "options" | "domain" | "sortlist"
        ) {
            out.push_str(line.trim());
            out.push('\n');
        }
    }
    if !out.contains("nameserver") {
        out.push_str("nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }
    out
}

/// The hosts file: loopback, the sandbox itself, and what the user adds.
pub fn hosts(hostname: &str, extra: &[(String, String)]) -> String {
    let mut out = format!(
        "127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    );
    for (name, address) in extra {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{address}\t{name}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_resolver_reads_is_passed_on() {
        let host = "# made by hand\nnameserver 10.0.0.1\nsearch example.com\n\nsecret x\n";
        assert_eq!(
            resolv_conf(host),
            "nameserver 10.0.0.1\nsearch example.com\n"
        );
        assert!(resolv_conf("search a\n").contains("nameserver 8.8.8.8"));
    }
}
