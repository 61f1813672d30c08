//! Fields of a tar header, as all kinds of programs have written them.

use tar::Header;

use super::BLOCK;

/// Where the device numbers lie in both the ustar and the GNU layout.
pub(super) trait DeviceFields {
    fn as_old_device(&self) -> (&[u8], &[u8]);
}

impl DeviceFields for Header {
    fn as_old_device(&self) -> (&[u8], &[u8]) {
        let bytes = self.as_bytes();
        (
            bytes.get(329..337).unwrap_or_default(),
            bytes.get(337..345).unwrap_or_default(),
        )
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// A numeric field: octal text, or big-endian two's complement with the top bit as a mark.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start = if negative {
            i128::from(first | 0x80) - 256
        } else {
            i128::from(first & 0x3f)
        };
        let value = rest.iter().try_fold(start, |value, b| {
            value.checked_mul(256).map(|value| value + i128::from(*b))
        })?;
        return i64::try_from(value).ok();
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0i64, |value, b| {
        let digit = matches!(b, b'0'..=b'7').then(|| i64::from(b - b'0'))?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

/// The sum of a header's bytes, its checksum taken as spaces; and the same with signed bytes, as
/// some old programs wrote it.
pub(super) fn checksums(block: &[u8; BLOCK]) -> (i64, i64) {
    let mut sums = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        sums.0 += i64::from(byte);
        sums.1 += i64::from(byte.cast_signed());
    }
    sums
}
