//! Any bytes as a layer. The first byte says whether whiteouts are decoded.

use std::io::Read as _;

use kiln_image::layer::{EntryKind, LayerReader, LayerWriter, Limits};

/// Checks what holds for any bytes: what comes out is clean, bounded by what went in, and can be
/// written again.
pub(crate) fn check(data: &[u8]) {
    let Some((first, tar)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        entries: 1000,
        bytes: 1 << 20,
    };
    let mut reader = LayerReader::new(tar)
        .whiteouts(first % 2 == 0)
        .limits(limits);
    let mut writer = LayerWriter::new(Vec::new());
    let mut entries = 0;
    let mut total = 0;
    while let Ok(Some(entry)) = reader.next() {
        entries += 1;
        assert!(entries <= limits.entries);
        is_clean(&entry.path);
        if let EntryKind::Hardlink { target } = &entry.kind {
            is_clean(target);
        }
        assert!(entry.mode <= 0o7777 && entry.mtime.nanos < 1_000_000_000);
        assert!(
            entry.xattrs.is_sorted_by(|a, b| a.0 < b.0),
            "{:?}",
            entry.xattrs
        );
        let mut bytes = Vec::new();
        let holes = reader.sparse_map().map_or(0, |map| {
            map.size() - map.parts().iter().map(|part| part.1).sum::<u64>()
        });
        let whole = reader.data().read_to_end(&mut bytes).is_ok();
        total += (bytes.len() as u64).saturating_sub(holes);
        assert!(total <= tar.len() as u64, "more data than there is");
        if !whole {
            return;
        }
        assert_eq!(bytes.len() as u64, entry.data_len());
        // A writer may refuse what no file system could hold; it must not break.
        if writer.append(&entry, &mut bytes.as_slice()).is_err() {
            return;
        }
    }
    assert!(writer.finish().is_ok());
}

fn is_clean(path: &[u8]) {
    let bad = |part: &[u8]| matches!(part, b"" | b"." | b"..") || part.contains(&0);
    let clean = path.is_empty() || !path.split(|b| *b == b'/').any(bad);
    assert!(clean, "{:?}", String::from_utf8_lossy(path));
}
