//! PAX extended headers (POSIX pax, "pax Extended Header").

use std::io::Write;

/// Appends the record `LENGTH KEY=VALUE\n`, where the length counts itself.
pub(super) fn push_record(out: &mut Vec<u8>, key: &[&[u8]], value: &[u8]) {
    let key_len: usize = key.iter().map(|part| part.len()).sum();
    let payload = key_len + value.len() + 3; // space, equals sign, newline
    let mut total = payload + 1;
    while total != payload + decimal_len(total) {
        total = payload + decimal_len(total);
    }
    push_decimal(out, total as u64);
    out.push(b' ');
    for part in key {
        out.extend_from_slice(part);
    }
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn decimal_len(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
}

/// Splits the body of an extended header into keys and values; an item is `None` where the body
/// breaks the format, and nothing follows it.
pub(super) fn records(body: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = next_record(rest);
        rest = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)))
    })
}

fn next_record(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = rest.iter().take(12).position(|b| *b == b' ')?;
    let total = decimal(rest.get(..space)?)?;
    let total = usize::try_from(total).ok()?;
    let record = rest.get(space + 1..total)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let key = record.get(..equals).filter(|key| !key.is_empty())?;
    Some((key, record.get(equals + 1..)?, rest.get(total..)?))
}

/// A decimal number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |number, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds with an optional fraction and sign, as seconds and nanoseconds.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.');
    let (whole, fraction) = match dot {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let secs = i64::try_from(decimal(whole)?).ok()?;
    let digits = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nanos = digits.fold(0u32, |number, b| number * 10 + u32::from(b - b'0'));
    match (negative, nanos) {
        (false, nanos) => Some((secs, nanos)),
        (true, 0) => Some((-secs, 0)),
        (true, nanos) => Some((-secs - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for value in [0, 1, 85, 86, 87, 88, 89, 90, 985, 986, 987, 988, 989, 990] {
            let value = vec![b'v'; value];
            let mut body = Vec::new();
            push_record(&mut body, &[b"pa", b"th"], &value);
            assert!(body.starts_with(format!("{} ", body.len()).as_bytes()));
            push_record(&mut body, &[b"uid"], b"7");
            let parsed: Option<Vec<_>> = records(&body).collect();
            assert_eq!(
                parsed.unwrap(),
                [(&b"path"[..], &value[..]), (b"uid", b"7")]
            );
        }
    }

    #[test]
    fn broken_records_end_the_list() {
        for body in [
            &b"5 a=b"[..],
            b"x a=b\n",
            b"99 a=b\n",
            b"0 a=b\n",
            b" a=b\n",
            b"6 =bc\n",
            b"6 abc\n",
            b"18446744073709551616 a=b\n",
            b"-1 a=b\n",
            b"6 a=b\nx",
            b"\0",
        ] {
            assert!(records(body).any(|record| record.is_none()), "{body:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.1234567899", Some((12, 123_456_789))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("", None),
            ("1.x", None),
            ("1e9", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }
}
