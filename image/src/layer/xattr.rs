//! Extended attributes in libarchive's form: the name with `%` escapes, the value in base64. It takes
//! any name, where the plain form has no place for an equals sign.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

/// Written without padding, read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Name and value as they stand in a record.
pub(super) fn encode(name: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        if matches!(byte, b'!'..=b'~') && !matches!(byte, b'%' | b'=') {
            escaped.push(*byte);
        } else {
            escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    (escaped, BASE64.encode(value).into_bytes())
}

/// Name and value of a record; none if it is not in this form.
pub(super) fn decode(name: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            plain.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            plain.push(*byte);
        }
    }
    let has_name = !plain.is_empty() && !plain.contains(&0);
    Some((plain, BASE64.decode(value).ok()?)).filter(|_| has_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_come_back() {
        for (name, value, escaped, encoded) in [
            (&b"user.a=b"[..], &b"v"[..], "user.a%3Db", "dg"),
            (b"user.a%b", b"va", "user.a%25b", "dmE"),
            (b"user.\xc3\xa9 x", b"val", "user.%C3%A9%20x", "dmFs"),
            (b"user.", b"", "user.", ""),
        ] {
            let written = encode(name, value);
            assert_eq!(written, (escaped.into(), encoded.into()));
            let read = decode(&written.0, &written.1);
            assert_eq!(read, Some((name.to_vec(), value.to_vec())));
        }
        assert_eq!(
            decode(b"user.a", b"dmE="),
            Some((b"user.a".to_vec(), b"va".to_vec()))
        );
        for (name, value) in [
            ("user.%", "dg"),
            ("user.%g0", "dg"),
            ("a", "*"),
            ("%00", "dg"),
        ] {
            assert_eq!(decode(name.as_bytes(), value.as_bytes()), None, "{name}");
        }
    }
}
