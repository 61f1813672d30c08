//! Against the reference registry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use kiln_image::descriptor::media_type::{self, ACCEPT_MANIFESTS};
use kiln_image::{Descriptor, Digest, ImageIndex, ImageManifest, Manifest, Reference};
use kiln_registry::{
    BlobReader, BlobSource, Client, FileSink, FileSource, MemorySink, MirrorUrl, Pushed,
    RegistryConfig, RegistryError, TlsConfig,
};
use kiln_testkit::{FaultServer, RegistryProcess, Reply, TinyImage, Verdict};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;

use super::{client, config, noise};

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn images_go_there_and_back() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let client = client();
    let image = TinyImage::of_layers(&[&[("a", b"one")], &[("b", &noise(3 << 20))]])?;
    let reference: Reference = format!("{}/team/app:v1", registry.host()).parse()?;
    client.ping(&reference).await?;
    assert!(
        client
            .resolve(&reference, &ACCEPT_MANIFESTS)
            .await
            .is_err_and(|e| e.is_not_found())
    );
    image.push(&client, &reference).await?;

    let found = client.resolve(&reference, &ACCEPT_MANIFESTS).await?;
    assert_eq!(found, image.manifest.0);
    let pinned = reference.with_digest(found.digest.clone());
    for reference in [&reference, &pinned] {
        let manifest = client.fetch_manifest(reference, &ACCEPT_MANIFESTS).await?;
        assert_eq!(manifest.raw(), image.manifest.1);
    }
    for (descriptor, bytes) in image.layers.iter().chain([&image.config]) {
        assert!(client.exists(&reference, &descriptor.digest).await?);
        let (mut sink, last) = (MemorySink::default(), AtomicU64::new(0));
        let progress = |total| last.store(total, Ordering::Relaxed);
        client
            .fetch_blob(&reference, descriptor, &mut sink, &progress)
            .await?;
        assert!(sink.into_bytes() == *bytes);
        assert_eq!(last.into_inner(), descriptor.size);
    }
    assert!(!client.exists(&reference, &Digest::of(b"other")).await?);
    let again = client
        .push_blob(
            &reference,
            &image.layers[0].0,
            &image.layers[0].1,
            &[],
            &|_| {},
        )
        .await?;
    assert_eq!(again, Pushed::Existed);
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn tags_are_listed() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let client = client();
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let name = format!("{}/app", registry.host());
    let mut expected = Vec::new();
    for number in 0..5 {
        let tag = format!("t{number}");
        image
            .push(&client, &format!("{name}:{tag}").parse()?)
            .await?;
        expected.push(tag);
    }
    assert_eq!(client.tags(&name.parse()?).await?, expected);
    let mut few = client.few_tags(&name.parse()?, 1000).await?;
    few.iter_mut().for_each(|few| few.sort_unstable());
    assert_eq!(few, Some(expected));
    let nothing = format!("{}/nothing", registry.host()).parse()?;
    assert_eq!(client.few_tags(&nothing, 1000).await?, Some(Vec::new()));
    let unknown = client
        .tags(&format!("{}/nothing", registry.host()).parse()?)
        .await;
    assert!(unknown.is_err_and(|error| error.is_not_found()));
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn blobs_are_mounted_from_other_repositories() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let client = client();
    let (first, second): (Reference, Reference) = (
        format!("{}/first", registry.host()).parse()?,
        format!("{}/second", registry.host()).parse()?,
    );
    let data = Bytes::from(noise(10_000));
    let blob = Descriptor::of(media_type::OCI_LAYER, &data);
    let none: Reference = format!("{}/none", registry.host()).parse()?;
    assert!(!client.mount(&second, &blob, &none).await?);
    let pushed = client.push_blob(&first, &blob, &data, &[], &|_| {}).await?;
    assert_eq!(pushed, Pushed::Uploaded);
    let from = [none, second.clone(), first];
    let pushed = client
        .push_blob(&second, &blob, &data, &from, &|_| {})
        .await?;
    assert_eq!(pushed, Pushed::Mounted);
    // The same without a question.
    let named = |name: &str| format!("{}/{name}", registry.host()).parse::<Reference>();
    let (third, fourth, fifth) = (named("third")?, named("fourth")?, named("fifth")?);
    for (to, from, expected) in [
        (&third, None, Pushed::Uploaded),
        (&third, None, Pushed::Uploaded),
        (&fourth, Some(third.clone()), Pushed::Mounted),
        (&fifth, Some(named("none")?), Pushed::Uploaded),
    ] {
        let from: Vec<Reference> = from.into_iter().collect();
        let pushed = client.push_new_blob(to, &blob, data.clone(), &from).await?;
        assert_eq!(pushed, expected, "{to}");
        assert!(client.exists(to, &blob.digest).await?, "{to}");
    }
    let empty = Descriptor::of(media_type::OCI_LAYER, b"");
    let pushed = client
        .push_blob(&second, &empty, &Bytes::new(), &[], &|_| {})
        .await?;
    assert_eq!(pushed, Pushed::Uploaded);
    let mut sink = MemorySink::default();
    client
        .fetch_blob(&second, &empty, &mut sink, &|_| {})
        .await?;
    Ok(())
}

/// Gives a piece now and then.
struct Slowly(Bytes);

impl BlobSource for Slowly {
    async fn open(&self, offset: u64) -> std::io::Result<BlobReader> {
        let (mut to, from) = tokio::io::duplex(1 << 20);
        let bytes = self
            .0
            .slice(usize::try_from(offset).unwrap_or(usize::MAX)..);
        tokio::spawn(async move {
            for piece in bytes.chunks(1000) {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if to.write_all(piece).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(from))
    }
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn an_upload_may_take_longer_than_a_server_may_be_silent() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let data = Slowly(noise(20_000).into());
    let blob = Descriptor::of(media_type::OCI_LAYER, &data.0);
    let reference: Reference = format!("{}/app", registry.host()).parse()?;
    let mut config = config();
    config.read_timeout = Duration::from_secs(1);
    config.retry.tries = 1;
    let client = Client::anonymous(config);
    let pushed = client
        .push_blob(&reference, &blob, &data, &[], &|_| {})
        .await?;
    assert_eq!(pushed, Pushed::Uploaded);
    Ok(())
}

/// This registry forgets an upload that breaks off.
#[tokio::test]
#[ignore = "needs docker-registry"]
async fn broken_uploads_begin_anew() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let data = noise(2 << 20);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &data)?;
    let blob = Descriptor::of(media_type::OCI_LAYER, &data);
    let source = FileSource(file.path().into());
    // How many uploads break, and after how many bytes.
    for (breaks, arrives) in [(1, 1 << 20), (2, 1), (2, 0), (9, 1000)] {
        let count = AtomicU64::new(0);
        let proxy = FaultServer::start(Some(registry.url()), move |seen| {
            if seen.method == "PATCH" && count.fetch_add(1, Ordering::Relaxed) < breaks {
                return Verdict::CutRequest(arrives, Reply::new(502, ""));
            }
            Verdict::Forward
        })
        .await?;
        let reference: Reference = format!("{}/app{breaks}-{arrives}", proxy.host()).parse()?;
        let result = client()
            .push_blob(&reference, &blob, &source, &[], &|_| {})
            .await;
        let begun = proxy.seen_of("POST", "/uploads/").len() as u64;
        assert_eq!(result.is_ok(), breaks < 3, "{breaks} breaks: {result:?}");
        assert_eq!(begun, (breaks + 1).min(3));
        assert_eq!(client().exists(&reference, &blob.digest).await?, breaks < 3);
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn broken_pulls_go_on() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let data = Bytes::from(noise(2 << 20));
    let blob = Descriptor::of(media_type::OCI_LAYER, &data);
    let reference: Reference = format!("{}/app", registry.host()).parse()?;
    client()
        .push_blob(&reference, &blob, &data, &[], &|_| {})
        .await?;
    // Breaks more often than a request is tried, but every try gets further.
    let proxy = FaultServer::start(Some(registry.url()), |seen| {
        if seen.earlier < 5 {
            Verdict::CutAnswer(300_000)
        } else {
            Verdict::Forward
        }
    })
    .await?;
    let reference: Reference = format!("{}/app", proxy.host()).parse()?;
    let mut sink = MemorySink::default();
    client()
        .fetch_blob(&reference, &blob, &mut sink, &|_| {})
        .await?;
    assert!(sink.into_bytes() == data);
    let ranges: Vec<_> = proxy
        .seen()
        .iter()
        .map(|seen| seen.header("range").to_owned())
        .collect();
    assert_eq!(ranges.len(), 6);
    assert!(ranges[0].is_empty() && ranges[1..].iter().all(|range| range.starts_with("bytes=")));
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn partial_files_of_earlier_processes_are_resumed() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let data = Bytes::from(noise(1 << 20));
    let blob = Descriptor::of(media_type::OCI_LAYER, &data);
    let origin: Reference = format!("{}/app", registry.host()).parse()?;
    client()
        .push_blob(&origin, &blob, &data, &[], &|_| {})
        .await?;
    let damaged = [&noise(500_001)[1..], b""].concat();
    let longer = noise((1 << 20) + 1);
    // What is there, and the ranges that are asked for.
    let cases: [(&[u8], &[&str]); 5] = [
        (b"", &[""]),
        (&data[..500_000], &["bytes=500000-"]),
        (&data, &[]),
        (&damaged, &["bytes=500000-", ""]),
        (&longer, &[""]),
    ];
    for (present, ranges) in cases {
        let proxy = FaultServer::start(Some(registry.url()), |_| Verdict::Forward).await?;
        let reference: Reference = format!("{}/app", proxy.host()).parse()?;
        let partial = tempfile::NamedTempFile::new()?;
        std::fs::write(partial.path(), present)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(partial.path())
            .await?;
        let mut sink = FileSink::new(file);
        client()
            .fetch_blob(&reference, &blob, &mut sink, &|_| {})
            .await?;
        assert!(std::fs::read(partial.path())? == data);
        let asked: Vec<_> = proxy
            .seen()
            .iter()
            .map(|seen| seen.header("range").to_owned())
            .collect();
        assert_eq!(asked, ranges, "{} bytes present", present.len());
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn mirrors_come_first_and_may_fail() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let reference: Reference = format!("{}/app:1", registry.host()).parse()?;
    image.push(&client(), &reference).await?;

    let broken = FaultServer::start(None, |_| Verdict::Reply(Reply::new(500, ""))).await?;
    let lying = FaultServer::start(None, |seen| {
        let body = if seen.path.contains("manifests") {
            "{}"
        } else {
            "lies"
        };
        Verdict::Reply(Reply::new(200, body))
    })
    .await?;
    let working = RegistryProcess::mirror_of(&registry.url())?;
    let count = FaultServer::start(Some(working.url()), |_| Verdict::Forward).await?;
    for (mirrors, through) in [
        (vec![count.url()], true),
        (vec![broken.url(), lying.url(), count.url()], true),
        (
            vec![broken.url(), "http://127.0.0.1:1".into(), lying.url()],
            false,
        ),
    ] {
        let mut config = config();
        let parsed = mirrors
            .iter()
            .map(|url| url.parse())
            .collect::<Result<_, String>>();
        config
            .mirrors
            .insert(registry.host(), parsed.map_err(anyhow::Error::msg)?);
        let client = kiln_registry::Client::anonymous(config);
        let before = count.seen().len();
        let manifest = client.fetch_manifest(&reference, &ACCEPT_MANIFESTS).await?;
        assert_eq!(manifest.raw(), image.manifest.1);
        assert_eq!(
            client.resolve(&reference, &ACCEPT_MANIFESTS).await?,
            image.manifest.0
        );
        let mut sink = MemorySink::default();
        client
            .fetch_blob(&reference, &image.layers[0].0, &mut sink, &|_| {})
            .await?;
        assert_eq!(sink.into_bytes(), image.layers[0].1);
        assert_eq!(count.seen().len() > before, through, "{mirrors:?}");
    }
    // Writing goes to the registry itself only.
    let mut config = config();
    let mirror = broken.url().parse().map_err(anyhow::Error::msg)?;
    config.mirrors.insert(registry.host(), vec![mirror]);
    let before = broken.seen().len();
    image
        .push(
            &kiln_registry::Client::anonymous(config),
            &reference.with_tag("2")?,
        )
        .await?;
    assert_eq!(broken.seen().len(), before);
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn referrers_fall_back_to_a_tag() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let client = client();
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let reference: Reference = format!("{}/app:1", registry.host()).parse()?;
    image.push(&client, &reference).await?;
    let subject = &image.manifest.0;
    assert_eq!(
        client.referrers(&reference, &subject.digest, None).await?,
        []
    );
    for kind in ["application/x-signature", "application/x-sbom"] {
        let mut artifact = ImageManifest::oci(image.config.0.clone(), vec![]);
        artifact.artifact_type = Some(kind.into());
        artifact.subject = Some(subject.clone());
        let raw = artifact.to_json()?;
        let by_digest = reference.by_digest(Digest::of(&raw));
        for _ in 0..2 {
            client
                .push_manifest(&by_digest, &raw, media_type::OCI_MANIFEST)
                .await?;
        }
    }
    let all = client.referrers(&reference, &subject.digest, None).await?;
    assert_eq!(all.len(), 2);
    let one = client
        .referrers(&reference, &subject.digest, Some("application/x-sbom"))
        .await?;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].artifact_type.as_deref(), Some("application/x-sbom"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn indexes_are_stored_as_they_are() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let client = client();
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let reference: Reference = format!("{}/app:multi", registry.host()).parse()?;
    image.push(&client, &reference.with_tag("one")?).await?;
    let raw = ImageIndex::oci(vec![image.manifest.0.clone()]).to_json()?;
    let digest = client
        .push_manifest(&reference, &raw, media_type::OCI_INDEX)
        .await?;
    assert_eq!(digest, Digest::of(&raw));
    let Manifest::Index(index) = client.fetch_manifest(&reference, &ACCEPT_MANIFESTS).await? else {
        anyhow::bail!("not an index");
    };
    assert_eq!(index.raw, raw);
    let wrong = reference.with_digest(Digest::of(b"wrong"));
    assert!(
        client
            .push_manifest(&wrong, &raw, media_type::OCI_INDEX)
            .await
            .is_err()
    );
    assert!(
        client
            .push_manifest(&reference, &raw, media_type::OCI_MANIFEST)
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn certificates_are_checked() -> Result<()> {
    let registry = RegistryProcess::start_tls()?;
    let plain = RegistryProcess::start()?;
    let trust = TlsConfig {
        authorities: vec![registry.authority().to_vec()],
        identity: None,
    };
    let host = registry.host();
    let with = |change: &dyn Fn(&mut RegistryConfig)| {
        let mut config = config();
        change(&mut config);
        Client::anonymous(config)
    };
    let reference = |host: &str| format!("{host}/app:1").parse::<Reference>();
    let mirror = |config: &mut RegistryConfig| {
        let mirror = registry.url().parse::<MirrorUrl>();
        config
            .mirrors
            .insert("registry.invalid".into(), mirror.into_iter().collect());
    };
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let trusting = with(&|config| drop(config.tls.insert(host.clone(), trust.clone())));
    image.push(&trusting, &reference(&host)?).await?;
    let insecure = with(&|config| {
        config.insecure.insert(host.clone());
        config.insecure.insert(plain.host());
    });
    insecure
        .resolve(&reference(&host)?, &ACCEPT_MANIFESTS)
        .await?;
    // Insecure registries need not have TLS at all.
    image.push(&insecure, &reference(&plain.host())?).await?;
    // Mirrors have settings of their own.
    let mirrored = with(&|config| {
        mirror(config);
        config.tls.insert(host.clone(), trust.clone());
    });
    let elsewhere = reference("registry.invalid")?;
    mirrored.resolve(&elsewhere, &ACCEPT_MANIFESTS).await?;

    let untrusting = with(&|config| mirror(config));
    assert!(
        untrusting
            .resolve(&elsewhere, &ACCEPT_MANIFESTS)
            .await
            .is_err()
    );
    let broken = TlsConfig {
        authorities: vec![b"no certificate".to_vec()],
        identity: None,
    };
    let broken = with(&|config| drop(config.tls.insert(host.clone(), broken.clone())));
    let result = broken.resolve(&reference(&host)?, &ACCEPT_MANIFESTS).await;
    assert!(
        matches!(result, Err(RegistryError::Settings { .. })),
        "{result:?}"
    );
    Ok(())
}
