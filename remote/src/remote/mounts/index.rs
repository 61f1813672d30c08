//! The pieces of a cache mount, and the index that tells of them.

use std::collections::{HashMap, HashSet};

use kiln_image::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use super::VERSION;
use kiln_cache::mount_chunks::{
    MAX_ARCHIVE, MAX_CHUNKS, MAX_DIFFERENT, MAX_LENGTH, MAX_SIZE, MountChunk,
};

/// The largest index, plain.
const MAX_PLAIN_INDEX: usize = 16 << 20;

/// What a remote has of a cache mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteMount {
    pub(super) chunks: Vec<MountChunk>,
    /// By their digests, pieces that others of the same content are there for: they are damaged there.
    pub(super) instead: HashMap<Digest, MountChunk>,
}

/// The index: SHA-256 in hexadecimal digits, bytes and plain bytes of each piece, in order.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    version: u32,
    chunks: Vec<(String, u64, u64)>,
    /// Digest of a piece that is damaged there, and of the one with the same content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    instead: Vec<(String, String)>,
}

impl RemoteMount {
    /// The pieces of its archive, in order.
    pub fn chunks(&self) -> &[MountChunk] {
        &self.chunks
    }

    /// Bytes of its different pieces.
    pub fn size(&self) -> u64 {
        different(&self.chunks).map(|c| c.size).sum()
    }

    /// Bytes of its archive.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|c| c.length).sum()
    }

    /// A mount of these pieces, in the form in which a place is to have them: as one that has some of them
    /// already, as `found` tells, or of `again` where it is damaged there.
    ///
    /// # Errors
    /// What `again` says.
    pub fn of<E>(
        packed: &[MountChunk],
        found: Option<&Self>,
        is_damaged: impl Fn(&Digest) -> bool,
        mut again: impl FnMut(&MountChunk) -> Result<MountChunk, E>,
    ) -> Result<Self, E> {
        let mut mount = Self {
            chunks: Vec::with_capacity(packed.len()),
            instead: HashMap::new(),
        };
        for chunk in packed {
            let before = found.and_then(|f| f.instead.get(&chunk.digest));
            let made = match (mount.instead.get(&chunk.digest), before) {
                (Some(made), _) => made.clone(),
                (None, Some(before)) if !is_damaged(&before.digest) => before.clone(),
                (None, None) if !is_damaged(&chunk.digest) => chunk.clone(),
                (None, _) => again(chunk)?,
            };
            if made != *chunk {
                mount.instead.insert(chunk.digest.clone(), made.clone());
            }
            mount.chunks.push(made);
        }
        Ok(mount)
    }

    /// The digests that pieces have where nothing is damaged, of those that are `present` in any form.
    pub fn packed_digests(&self, present: &HashSet<Digest>) -> HashSet<Digest> {
        let there = |(packed, other): (&Digest, &MountChunk)| {
            present.contains(&other.digest).then(|| packed.clone())
        };
        let replaced = self.instead.iter().filter_map(there);
        replaced.chain(present.iter().cloned()).collect()
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let row = |c: &MountChunk| (c.digest.hex().to_owned(), c.size, c.length);
        let instead = |(packed, other): (&Digest, &MountChunk)| {
            (packed.hex().to_owned(), other.digest.hex().to_owned())
        };
        let mut instead: Vec<_> = self.instead.iter().map(instead).collect();
        instead.sort();
        let index = Index {
            version: VERSION,
            chunks: self.chunks.iter().map(row).collect(),
            instead,
        };
        let json = serde_json::to_vec(&index).map_err(|e| e.to_string())?;
        zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|e| e.to_string())
    }

    /// Reads an index, whose digest is right, and refuses one of what kiln would not have written.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let json = zstd::bulk::decompress(bytes, MAX_PLAIN_INDEX).map_err(|e| e.to_string())?;
        let index: Index = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
        if index.version != VERSION {
            return Err(format!("it has version {}", index.version));
        }
        if index.chunks.len() > MAX_CHUNKS {
            return Err(format!("it has {} pieces", index.chunks.len()));
        }
        let mut chunks = Vec::with_capacity(index.chunks.len());
        let mut total = 0_u64;
        for (hex, size, length) in index.chunks {
            let digest = sha256(&hex)?;
            if size > MAX_SIZE || length > MAX_LENGTH || length == 0 {
                return Err(format!("a piece has {size} bytes for {length}"));
            }
            total = total.saturating_add(length);
            chunks.push(MountChunk {
                digest,
                size,
                length,
            });
        }
        if total > MAX_ARCHIVE || different(&chunks).count() > MAX_DIFFERENT {
            return Err("it is too large".into());
        }
        let mut others = HashMap::new();
        if !index.instead.is_empty() {
            let by_digest: HashMap<&Digest, &MountChunk> =
                chunks.iter().map(|c| (&c.digest, c)).collect();
            for (packed, other) in &index.instead {
                let other = by_digest.get(&sha256(other)?);
                let other = other.ok_or("a piece is missing")?;
                others.insert(sha256(packed)?, (*other).clone());
            }
        }
        Ok(Self {
            chunks,
            instead: others,
        })
    }

    /// Pieces in order, with how often each comes in a row.
    pub(super) fn runs(&self) -> Vec<(MountChunk, u64)> {
        let mut runs: Vec<(MountChunk, u64)> = Vec::new();
        for chunk in &self.chunks {
            match runs.last_mut() {
                Some((last, times)) if last == chunk => *times += 1,
                _ => runs.push((chunk.clone(), 1)),
            }
        }
        runs
    }
}

fn sha256(hex: &str) -> Result<Digest, String> {
    let digest = format!("{}:{hex}", Algorithm::Sha256).parse();
    digest.map_err(|_| "a digest is malformed".into())
}

/// Every piece once.
pub(super) fn different(chunks: &[MountChunk]) -> impl Iterator<Item = &MountChunk> {
    let mut seen = HashSet::new();
    chunks.iter().filter(move |c| seen.insert(&c.digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str, size: u64, length: u64) -> MountChunk {
        let digest = Digest::of(text.as_bytes());
        MountChunk {
            digest,
            size,
            length,
        }
    }

    fn of(chunks: &[MountChunk]) -> RemoteMount {
        let never = |_: &MountChunk| Err("nothing is damaged");
        RemoteMount::of(chunks, None, |_| false, never).unwrap()
    }

    #[test]
    fn what_is_damaged_has_another_form_until_that_is_damaged_too() {
        let packed = [chunk("a", 5, 9), chunk("b", 5, 9), chunk("a", 5, 9)];
        let (first, second) = (chunk("a again", 6, 9), chunk("a once more", 6, 9));
        let bad = HashSet::from([packed[0].digest.clone()]);
        let with = |found: Option<&RemoteMount>, bad: &HashSet<Digest>, other: &MountChunk| {
            let mut made = 0;
            let mount = RemoteMount::of(
                &packed,
                found,
                |d| bad.contains(d),
                |_| {
                    made += 1;
                    Ok::<_, ()>(other.clone())
                },
            );
            let bytes = mount.unwrap().to_bytes().unwrap();
            (RemoteMount::from_bytes(&bytes).unwrap(), made)
        };
        let (mended, made) = with(None, &bad, &first);
        let form = |a: &MountChunk| [a.clone(), packed[1].clone(), a.clone()];
        assert_eq!((mended.chunks(), made), (&form(&first)[..], 1));
        let present = HashSet::from([first.digest.clone()]);
        assert!(mended.packed_digests(&present).contains(&packed[0].digest));
        assert!(mended.packed_digests(&HashSet::new()).is_empty());
        // Who knows nothing of the damage keeps what was put in its place.
        let (kept, made) = with(Some(&mended), &HashSet::new(), &second);
        assert_eq!((&kept, made), (&mended, 0));
        let (other, made) = with(Some(&mended), &present, &second);
        assert_eq!((other.chunks(), made), (&form(&second)[..], 1));
    }

    #[test]
    fn an_index_comes_back_and_repeated_pieces_are_fetched_once() {
        let chunks = [chunk("a", 5, 9), chunk("zero", 1, 8), chunk("zero", 1, 8)];
        let bytes = of(&chunks).to_bytes().unwrap();
        let mount = RemoteMount::from_bytes(&bytes).unwrap();
        assert_eq!(mount.chunks(), chunks);
        assert_eq!(mount.size(), 6);
        let times: Vec<u64> = mount.runs().iter().map(|r| r.1).collect();
        assert_eq!(times, [1, 2]);
    }

    #[test]
    fn an_index_that_asks_for_too_much_is_refused() {
        let too_many = vec![chunk("a", 1, 1); MAX_CHUNKS + 1];
        let too_long = vec![chunk("a", 1, MAX_LENGTH); 4097];
        let other: Vec<_> = (0..=MAX_DIFFERENT)
            .map(|n| chunk(&n.to_string(), 1, 1))
            .collect();
        for (chunks, why) in [
            (too_many, "pieces"),
            (too_long, "too large"),
            (other, "too large"),
            (vec![chunk("a", 1, MAX_LENGTH + 1)], "a piece has"),
            (vec![chunk("a", MAX_SIZE + 1, 1)], "a piece has"),
            (vec![chunk("a", 1, 0)], "a piece has"),
        ] {
            let bytes = of(&chunks).to_bytes().unwrap();
            let error = RemoteMount::from_bytes(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let pack = |text: &[u8]| zstd::bulk::compress(text, 3).unwrap();
        for bytes in [
            b"no zstd".to_vec(),
            pack(b"{}"),
            pack(br#"{"version":2,"chunks":[]}"#),
            pack(br#"{"version":1,"chunks":[["../../etc",1,1]]}"#),
            // A bomb.
            pack(&vec![b' '; MAX_PLAIN_INDEX + 1]),
        ] {
            assert!(RemoteMount::from_bytes(&bytes).is_err());
        }
    }
}
