//! Ports of EXPOSE.

use std::net::IpAddr;

/// The parts of a port as it is written: `ADDRESS:HOST:PORT/PROTOCOL`, all but PORT optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    address: &'a str,
    host: &'a str,
    range: &'a str,
    /// `tcp` where nothing is written.
    pub(super) protocol: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(word: &'a str) -> Self {
        let (outside, inside) = word.rsplit_once(':').unwrap_or(("", word));
        let (address, host) = outside.rsplit_once(':').unwrap_or(("", outside));
        let (range, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        Self {
            address,
            host,
            range,
            protocol,
        }
    }

    /// Whether an address or a port of the host is given.
    pub(super) fn are_mapped(&self) -> bool {
        !self.address.is_empty() || !self.host.is_empty()
    }

    /// The ports. What only `run` can publish is looked at and left out.
    pub(super) fn ports(&self) -> Result<Ports, &'static str> {
        let protocol = self.protocol.to_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err("the protocol is unknown");
        }
        let bare = self
            .address
            .strip_prefix('[')
            .and_then(|a| a.strip_suffix(']'))
            .unwrap_or(self.address);
        if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err("the address is not an IP address");
        }
        let (first, last) = parse_range(self.range).ok_or("it is not a number up to 65535")?;
        if !self.host.is_empty() {
            let (from, to) =
                parse_range(self.host).ok_or("the port of the host is not a number")?;
            if first != last && to - from != last - first {
                return Err("the ranges have different lengths");
            }
        }
        Ok(Ports {
            first,
            last,
            protocol,
        })
    }
}

/// Ports with a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl Ports {
    /// Each port with its protocol.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // A sign is no part of a port.
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::Parts;

    #[test]
    fn ports_and_what_stands_around_them() {
        type Want = Option<(&'static [&'static str], bool)>;
        let cases: [(&str, Want); 21] = [
            ("80", Some((&["80/tcp"], false))),
            ("80/udp", Some((&["80/udp"], false))),
            ("80/UDP", Some((&["80/udp"], false))),
            ("80/", Some((&["80/tcp"], false))),
            ("80-82", Some((&["80/tcp", "81/tcp", "82/tcp"], false))),
            ("8080:80", Some((&["80/tcp"], true))),
            ("8080-8081:80-81", Some((&["80/tcp", "81/tcp"], true))),
            ("8080-8081:80", Some((&["80/tcp"], true))),
            ("127.0.0.1:8080:80/sctp", Some((&["80/sctp"], true))),
            ("127.0.0.1::80", Some((&["80/tcp"], true))),
            ("[::1]:8080:80", Some((&["80/tcp"], true))),
            ("::1:8080:80", Some((&["80/tcp"], true))),
            (":80", Some((&["80/tcp"], false))),
            ("8080:80-81", None),
            ("x:80", None),
            ("1.2.3:80:80", None),
            ("80/icmp", None),
            ("70000", None),
            ("82-80", None),
            ("+80", None),
            ("", None),
        ];
        for (word, want) in cases {
            let parts = Parts::of(word);
            let found = parts.ports().ok();
            let found = found.map(|p| (p.all().collect::<Vec<_>>(), parts.are_mapped()));
            let want = want.map(|(ports, mapped)| {
                let ports = ports.iter().map(ToString::to_string);
                (ports.collect::<Vec<_>>(), mapped)
            });
            assert_eq!(found, want, "{word}");
        }
    }
}
