//! What to do about a step that failed, as far as its last words tell.

/// Where a line of output points to, and what helps.
struct Known {
    /// One of these in a line of the output, in lower case.
    said: &'static [&'static str],
    hint: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        said: &["unable to locate package", "has no installation candidate"],
        hint: "the lists of packages are not in the image, or are old: run `apt-get update && apt-get install …` in one RUN",
    },
    Known {
        said: &[
            "certificate verify failed",
            "unable to get local issuer certificate",
            "self-signed certificate",
            "self signed certificate",
            "certificate signed by unknown authority",
            "server certificate verification failed",
            "unable_to_get_issuer_cert",
        ],
        hint: "the image does not know the authority of that certificate: install ca-certificates, or name your own in [build] certificate-authorities of the config file",
    },
    Known {
        said: &[
            "permission denied (publickey",
            "host key verification failed",
        ],
        hint: "git over SSH needs an agent: `RUN --mount=type=ssh` and `kiln build --ssh default`",
    },
    Known {
        said: &["/run/secrets/"],
        hint: "a secret that the build was not given is not there: `--secret id=NAME,src=FILE`",
    },
    Known {
        said: &[
            "ping: operation not permitted",
            "ping: socket: operation not permitted",
            "ping: permission denied (are you root?)",
            "missing cap_net_raw",
            "lacking privilege for icmp socket",
            "arping: operation not permitted",
            "tcpdump: operation not permitted",
            "don't have permission to capture on that device",
        ],
        hint: "steps have no raw packets in the host's network: ping of iputils or Alpine works where net.ipv4.ping_group_range of the host has the step's group, and the program no capability of its own (`setcap -r`)",
    },
    Known {
        said: &["no space left on device"],
        hint: "the disk of the store or a tmpfs is full: `kiln system df` shows what takes room",
    },
];

/// What helps against a failure of a command whose last lines of output were these.
pub(super) fn of_output<'a>(
    output: impl DoubleEndedIterator<Item = &'a str>,
) -> Option<&'static str> {
    // What was said last is nearest to the failure.
    output.rev().take(50).find_map(|line| {
        let line = line.to_lowercase();
        let known = |known: &&Known| known.said.iter().any(|said| line.contains(said));
        KNOWN.iter().find(known).map(|known| known.hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_have_hints() {
        for (line, word) in [
            ("E: Unable to locate package nginx", Some("apt-get update")),
            (
                "E: Package 'x' has no installation candidate",
                Some("apt-get update"),
            ),
            (
                "curl: (60) SSL certificate problem: unable to get local issuer certificate",
                Some("certificate-authorities"),
            ),
            (
                "x509: certificate signed by unknown authority",
                Some("ca-certificates"),
            ),
            (
                "git@github.com: Permission denied (publickey).",
                Some("--ssh default"),
            ),
            ("Host key verification failed.", Some("--ssh")),
            (
                "cat: can't open '/run/secrets/token': No such file or directory",
                Some("--secret id="),
            ),
            (
                "sh: ping: Operation not permitted",
                Some("ping_group_range"),
            ),
            (
                "ping: permission denied (are you root?)",
                Some("ping_group_range"),
            ),
            (
                "cp: error writing 'x': No space left on device",
                Some("system df"),
            ),
            ("make: *** [all] Error 1", None),
        ] {
            let lines = ["first", line, "last"];
            let hint = of_output(lines.into_iter());
            assert_eq!(hint.is_some(), word.is_some(), "{line}");
            assert!(
                hint.unwrap_or_default().contains(word.unwrap_or_default()),
                "{line}"
            );
        }
    }
}
