//! A file with holes in each form that is read. The first byte says which, the next three are the
//! file's size; a map follows up to the first NUL, and then what the archive has of the file.

use std::io::Read as _;

use kiln_image::layer::{EntryKind, FileData as _, LayerReader, Limits};

/// Checks that a file of any map is as long as it says, has its data where the map says, and is the
/// same with its holes read and passed over; and that what follows is found.
pub(crate) fn check(data: &[u8]) {
    let Some(([form, size @ ..], rest)) = data.split_first_chunk::<4>() else {
        return;
    };
    let size = u32::from_be_bytes([0, size[0], size[1], size[2]]).to_string();
    let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let (map, stored) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let mut records: Vec<(&str, &[u8])> = vec![("GNU.sparse.name", b"true/name")];
    let mut body = Vec::new();
    let numbers = || map.split(|b| *b == b',');
    match form % 3 {
        0 => {
            records.push(("GNU.sparse.size", size.as_bytes()));
            for (at, number) in numbers().enumerate() {
                let key = ["GNU.sparse.offset", "GNU.sparse.numbytes"][at % 2];
                records.push((key, number));
            }
        }
        1 => {
            records.push(("GNU.sparse.size", size.as_bytes()));
            records.push(("GNU.sparse.map", map));
        }
        _ => {
            records.push(("GNU.sparse.major", b"1"));
            records.push(("GNU.sparse.minor", b"0"));
            records.push(("GNU.sparse.realsize", size.as_bytes()));
            for number in numbers() {
                body.extend_from_slice(number);
                body.push(b'\n');
            }
            body.resize(body.len().next_multiple_of(512), 0);
        }
    }
    body.extend_from_slice(stored);
    let mut tar = block(b'x', &pax(&records));
    tar.extend(block(b'0', &body));
    tar.extend(block(b'0', b"behind"));
    let reader = || {
        LayerReader::new(tar.as_slice()).limits(Limits {
            entries: 10,
            // For the largest file, and what follows it.
            bytes: 1 << 25,
        })
    };

    let mut whole = reader();
    let Ok(Some(entry)) = whole.next() else {
        return;
    };
    assert_eq!(entry.path, b"true/name");
    let map = whole.sparse_map().cloned();
    let map = map.unwrap_or_else(|| panic!("no map"));
    assert_eq!(entry.kind, EntryKind::File { size: map.size() });
    let mut bytes = Vec::new();
    whole
        .data()
        .read_to_end(&mut bytes)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut expected = vec![0; usize::try_from(map.size()).unwrap_or(0)];
    let mut from = stored;
    for (offset, length) in map.parts() {
        let at = usize::try_from(*offset).unwrap_or(0);
        let (part, left) = from.split_at(usize::try_from(*length).unwrap_or(0));
        expected[at..at + part.len()].copy_from_slice(part);
        from = left;
    }
    assert!(from.is_empty(), "not all of what is stored");
    assert!(bytes == expected);
    assert_eq!(whole.data().remaining(), 0);

    let mut passing = reader();
    assert!(passing.next().is_ok_and(|entry| entry.is_some()));
    let mut data = passing.data();
    let mut bytes = Vec::new();
    loop {
        let hole = data.pass_hole();
        bytes.resize(bytes.len() + usize::try_from(hole).unwrap_or(0), 0);
        let mut some = [0; 7];
        match data.read(&mut some) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&some[..n]),
            Err(e) => panic!("{e}"),
        }
    }
    assert!(bytes == expected, "with holes passed over");

    for mut reader in [whole, reader()] {
        let mut next = reader.next();
        if let Ok(Some(entry)) = &next
            && entry.path == b"true/name"
        {
            next = reader.next();
        }
        assert!(matches!(next, Ok(Some(entry)) if entry.path == b"f"));
    }
}

/// Records of an extended header.
fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let payload = key.len() + value.len() + 3;
        let mut total = payload + 1;
        while total != payload + total.to_string().len() {
            total = payload + total.to_string().len();
        }
        out.extend_from_slice(format!("{total} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// A header of this kind for `f`, and what belongs to it.
fn block(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[0] = b'f';
    for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000")] {
        header[at..at + 7].copy_from_slice(text.as_bytes());
    }
    header[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend_from_slice(body);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}
