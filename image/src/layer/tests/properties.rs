//! What holds for any entries and any damage.

use super::*;

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let name = proptest::collection::vec(
        prop_oneof![Just(b'a'), Just(b'.'), Just(b' '), Just(0xc3), any::<u8>()],
        1..60,
    );
    let path = proptest::collection::vec(name, 1..6).prop_filter_map("clean", |parts| {
        let path = clean_path(&parts.join(&b'/'))?;
        let plain = path
            .split(|b| *b == b'/')
            .all(|part| !part.starts_with(WHITEOUT));
        (!path.is_empty() && plain).then_some(path)
    });
    let kind = prop_oneof![
        Just(EntryKind::Directory),
        (0u64..2000).prop_map(|size| EntryKind::File { size }),
        proptest::collection::vec(1u8.., 1..200).prop_map(|target| EntryKind::Symlink { target }),
        Just(EntryKind::Whiteout),
        Just(EntryKind::Opaque),
        (0u32..5000, 0u32..2_000_000)
            .prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
    ];
    let xattr = (
        "[a-z.]{1,20}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..90),
    );
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..4);
    (
        path,
        kind,
        0u32..0o10000,
        any::<(u32, u32)>(),
        any::<i32>(),
        xattrs,
    )
        .prop_map(|(path, kind, mode, (uid, gid), secs, xattrs)| {
            let mtime = Timestamp::from_secs(secs.into());
            let xattrs = xattrs.into_iter().collect();
            let entry = Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            };
            let data = vec![mode as u8; usize::try_from(entry.data_len()).unwrap()];
            (entry, data)
        })
}

proptest! {
    #[test]
    fn round_trip(entries in proptest::collection::vec(any_entry(), 0..12)) {
        let expected: Vec<_> = entries.iter().map(|(e, d)| (normal(e), d.clone())).collect();
        prop_assert_eq!(read(&write(&entries)).unwrap(), expected);
    }

    #[test]
    fn damage_is_an_error_or_a_safe_entry(
        entries in proptest::collection::vec(any_entry(), 1..4),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        fix in any::<bool>(),
    ) {
        let mut tar = write(&entries);
        for (at, byte) in hits {
            let at = at.index(tar.len());
            tar[at] = byte;
            if fix {
                let start = at / 512 * 512;
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&tar[start..start + 512]);
                header.set_cksum();
                tar[start..start + 512].copy_from_slice(header.as_bytes());
            }
        }
        for (entry, _) in read(&tar).unwrap_or_default() {
            prop_assert!(path::is_clean(&entry.path));
        }
    }
}
