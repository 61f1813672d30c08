use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::*;
use crate::digest::Digest;

/// Bytes of which some compress well and some do not.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..length)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if at / 4096 % 3 == 0 {
                state as u8
            } else {
                (at / 7 % 50) as u8
            }
        })
        .collect()
}

fn encode(data: &[u8], kind: Compression, threads: usize, chunk: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), kind, None, threads).unwrap();
    for part in data.chunks(chunk) {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

fn decode(data: Vec<u8>) -> io::Result<(Compression, Vec<u8>)> {
    let (kind, mut reader) = decoder(Box::new(io::Cursor::new(data)))?;
    let mut output = Vec::new();
    reader.read_to_end(&mut output)?;
    Ok((kind, output))
}

#[test]
fn bytes_depend_on_the_input_alone() {
    for size in [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9_500_000] {
        let data = sample(size);
        for kind in [Compression::Gzip, Compression::Zstd] {
            let one = encode(&data, kind, 1, 1 << 20);
            for (threads, chunk) in [(1, 777_777), (4, 1 << 20), (4, 65_537), (3, usize::MAX)] {
                let other = encode(&data, kind, threads, chunk);
                assert!(
                    one == other,
                    "{kind} of {size} bytes: {threads} threads, {chunk}"
                );
            }
            let (found, decoded) = decode(one).unwrap();
            assert_eq!(found, kind);
            assert!(decoded == data, "{kind} of {size} bytes");
        }
        let gzip = encode(&data, Compression::Gzip, 4, 1 << 20);
        let mut single = Vec::new();
        flate2::read::GzDecoder::new(gzip.as_slice())
            .read_to_end(&mut single)
            .unwrap();
        assert!(single == data, "one member of {size} bytes");
    }
}

#[test]
fn padding_is_passed_over() {
    let data = sample(100_000);
    for kind in [Compression::Gzip, Compression::Zstd] {
        let (found, decoded) = decode(padded(&data, kind)).unwrap();
        assert!(found == kind && decoded == data, "{kind}");
    }
    assert!(through("gzip", padded(&data, Compression::Gzip)) == data);
    assert!(padding(Compression::Xz, [7; 16]).is_none());
}

#[test]
#[ignore = "needs zstd"]
fn padding_is_passed_over_by_zstd() {
    let data = sample(100_000);
    assert!(through("zstd", padded(&data, Compression::Zstd)) == data);
}

fn padded(data: &[u8], kind: Compression) -> Vec<u8> {
    let mut padded = encode(data, kind, 1, 4096);
    padded.extend(padding(kind, [7; 16]).unwrap());
    padded
}

/// What another program makes of these bytes.
fn through(program: &str, bytes: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

#[test]
fn gzip_bytes_do_not_change() {
    let gzip = encode(&sample(3_000_000), Compression::Gzip, 2, 1 << 20);
    assert_eq!(Digest::of(&gzip).as_str(), GOLDEN);
}

const GOLDEN: &str = "sha256:0ee8dbd768783bac4d7f483c25c57816be02569a4917b23888a1d38d339d7e06";

#[test]
fn other_programs_read_what_is_written() {
    let data = sample(2_500_000);
    let gzip = encode(&data, Compression::Gzip, 2, 1 << 20);
    assert!(through("gzip", gzip) == data);
}

#[test]
fn every_format_is_detected_and_read_to_the_end() {
    let (a, b) = (sample(100_000), sample(50_000));
    let both = [a.clone(), b.clone()].concat();
    let gzip = |data: &[u8]| encode(data, Compression::Gzip, 1, 4096);
    let zstd = |data: &[u8]| encode(data, Compression::Zstd, 1, 4096);
    let bzip2 = |data: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let xz = |data: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let skippable = [
        &[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
        &zstd(&a),
        &zstd(&b),
    ]
    .concat();
    let cases = [
        (Compression::None, both.clone()),
        (Compression::Gzip, [gzip(&a), gzip(&b)].concat()),
        (Compression::Zstd, [zstd(&a), zstd(&b)].concat()),
        (Compression::Zstd, skippable),
        (Compression::Bzip2, [bzip2(&a), bzip2(&b)].concat()),
        (Compression::Xz, [xz(&a), xz(&b)].concat()),
    ];
    for (kind, compressed) in cases {
        let (found, decoded) = decode(compressed.clone()).unwrap();
        assert_eq!(found, kind);
        assert!(decoded == both, "{kind}");
        if kind != Compression::None {
            let cut = compressed[..compressed.len() - 10].to_vec();
            assert!(decode(cut).is_err(), "truncated {kind}");
        }
    }
    assert_eq!(decode(vec![]).unwrap(), (Compression::None, vec![]));
}

#[test]
fn media_types_and_compressions_agree() {
    for kind in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for media_type in [
            kind.oci_layer_type().unwrap(),
            kind.docker_layer_type().unwrap(),
        ] {
            assert_eq!(
                Compression::of_media_type(media_type),
                Some(kind),
                "{media_type}"
            );
        }
    }
    for other in [
        "application/json",
        "application/vnd.oci.image.layer.v1.tar+encrypted",
        "",
    ] {
        assert_eq!(Compression::of_media_type(other), None);
    }
    assert!(Encoder::new(Vec::new(), Compression::Xz, None, 1).is_err());
    assert!(Encoder::new(Vec::new(), Compression::Gzip, Some(10), 1).is_err());
    assert!(Encoder::new(Vec::new(), Compression::Zstd, Some(99), 1).is_err());
}

#[test]
fn failing_outputs_are_reported() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let data = sample(20 << 20);
    for threads in [1, 3] {
        let mut encoder = ParallelGzip::new(Full(1 << 20), 1, threads);
        let result = encoder
            .write_all(&data)
            .and_then(|()| encoder.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
