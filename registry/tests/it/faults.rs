//! Against servers that misbehave.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use kiln_image::descriptor::media_type::{self, ACCEPT_MANIFESTS};
use kiln_image::{Descriptor, Digest, Reference};
use kiln_registry::{MemorySink, Pushed, RegistryError};
use kiln_testkit::{FaultServer, Reply, Seen, TinyImage, Verdict};

use super::{client, noise};

/// A server of one image, as healthy as the rule lets it be.
async fn serve(
    image: TinyImage,
    rule: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
) -> Result<(FaultServer, Reference)> {
    let server = FaultServer::start(None, move |seen| {
        Verdict::Reply(rule(seen).unwrap_or_else(|| healthy(&image, seen)))
    })
    .await?;
    let reference = format!("{}/app:1", server.host()).parse()?;
    Ok((server, reference))
}

fn healthy(image: &TinyImage, seen: &Seen) -> Reply {
    let parts = image.layers.iter().chain([&image.config, &image.manifest]);
    let id = seen.path.rsplit('/').next().unwrap_or_default();
    for (descriptor, bytes) in parts {
        let tagged = id == "1" && descriptor == &image.manifest.0;
        if tagged || id == descriptor.digest.as_str() {
            return Reply::new(200, bytes.clone())
                .header("Content-Type", descriptor.media_type.as_str())
                .header("Docker-Content-Digest", descriptor.digest.to_string());
        }
    }
    Reply::new(
        404,
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such\u001b[31m thing"}]}"#,
    )
}

fn image() -> Result<TinyImage> {
    TinyImage::of_files(&[("a", &noise(400_000))])
}

async fn pull_layer(image: &TinyImage, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
    let mut sink = MemorySink::default();
    client()
        .fetch_blob(reference, &image.layers[0].0, &mut sink, &|_| {})
        .await?;
    Ok(sink.into_bytes())
}

#[tokio::test]
async fn temporary_errors_are_tried_again() -> Result<()> {
    let image = image()?;
    for (status, tries) in [
        (408, 3),
        (429, 3),
        (499, 3),
        (500, 3),
        (502, 3),
        (503, 3),
        (504, 3),
        (522, 3),
        (400, 1),
        (403, 1),
        (404, 1),
        (501, 1),
    ] {
        // Fails twice, then works.
        let rule = move |seen: &Seen| (seen.earlier < 2).then(|| Reply::new(status, ""));
        let (server, reference) = serve(image.clone(), rule).await?;
        let result = pull_layer(&image, &reference).await;
        assert_eq!(result.is_ok(), tries == 3, "{status}");
        assert_eq!(server.seen().len(), tries, "{status}");
        // Fails for ever.
        let (server, reference) =
            serve(image.clone(), move |_| Some(Reply::new(status, ""))).await?;
        let result = client().fetch_manifest(&reference, &ACCEPT_MANIFESTS).await;
        let found =
            matches!(result, Err(RegistryError::Status { status: found, .. }) if found == status);
        assert!(found, "{status}");
        assert_eq!(server.seen().len(), tries, "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn retry_after_is_honoured() -> Result<()> {
    let image = image()?;
    let wait = |seconds: &'static str| {
        move |seen: &Seen| {
            (seen.earlier == 0).then(|| Reply::new(429, "").header("Retry-After", seconds))
        }
    };
    let (server, reference) = serve(image.clone(), wait("1")).await?;
    let start = Instant::now();
    pull_layer(&image, &reference).await?;
    assert!(start.elapsed().as_secs_f32() >= 1.0);
    assert_eq!(server.seen().len(), 2);
    // Longer than there is patience for.
    let (server, reference) = serve(image.clone(), wait("3600")).await?;
    assert!(pull_layer(&image, &reference).await.is_err());
    assert_eq!(server.seen().len(), 1);
    Ok(())
}

#[tokio::test]
async fn wrong_ranges_are_not_taken() -> Result<()> {
    let image = image()?;
    let layer = image.layers[0].1.clone();
    let cut = 100_000;
    // How the server answers the request for the rest, and whether that ends well.
    for (status, range, from, works) in [
        (
            206,
            format!("bytes {cut}-{}/{}", layer.len() - 1, layer.len()),
            cut,
            true,
        ),
        (200, String::new(), 0, true),
        (
            206,
            format!("bytes 0-{}/{}", layer.len() - 1, layer.len()),
            0,
            false,
        ),
        (206, String::new(), cut, false),
    ] {
        let bytes = layer.clone();
        let (_server, reference) = serve(image.clone(), move |seen| {
            if seen.header("range").is_empty() {
                Some(Reply::new(200, bytes.clone()).cut_after(cut))
            } else if range.is_empty() {
                Some(Reply::new(status, bytes.slice(from..)))
            } else {
                Some(
                    Reply::new(status, bytes.slice(from..)).header("Content-Range", range.as_str()),
                )
            }
        })
        .await?;
        let result = pull_layer(&image, &reference).await;
        assert_eq!(result.is_ok(), works, "{status} from {from}");
        assert!(!works || result? == layer);
    }
    Ok(())
}

#[tokio::test]
async fn wrong_content_is_refused() -> Result<()> {
    let image = image()?;
    let layer = image.layers[0].1.to_vec();
    let flipped: Vec<u8> = layer
        .iter()
        .enumerate()
        .map(|(i, b)| b ^ u8::from(i == 5))
        .collect();
    let longer = [&layer[..], b"x"].concat();
    let shorter = layer[..layer.len() - 1].to_vec();
    for (name, body) in [
        ("flipped", flipped),
        ("longer", longer),
        ("shorter", shorter),
    ] {
        let (_server, reference) =
            serve(image.clone(), move |_| Some(Reply::new(200, body.clone()))).await?;
        let mut sink = MemorySink::default();
        let result = client()
            .fetch_blob(&reference, &image.layers[0].0, &mut sink, &|_| {})
            .await;
        assert!(
            matches!(result, Err(RegistryError::Content { .. })),
            "{name}: {result:?}"
        );
        assert!(name == "shorter" || sink.into_bytes().is_empty(), "{name}");
    }
    let oci = media_type::OCI_MANIFEST;
    let raw = image.manifest.1.clone();
    let reply = move |body: &[u8]| Reply::new(200, body.to_vec()).header("Content-Type", oci);
    let other = reply(b"{}").header("Docker-Content-Digest", image.manifest.0.digest.to_string());
    let cases = [
        ("other content", other),
        (
            "other type",
            reply(&raw).header("Content-Type", media_type::OCI_INDEX),
        ),
        ("too large", reply(&vec![b' '; (4 << 20) + 1])),
        (
            "HTML",
            Reply::new(200, "<html>").header("Content-Type", "text/html"),
        ),
        (
            "confused",
            reply(br#"{"schemaVersion":2,"layers":[],"manifests":[]}"#),
        ),
    ];
    for (name, reply) in cases {
        let (_server, reference) = serve(image.clone(), move |_| Some(reply.clone())).await?;
        let result = client().fetch_manifest(&reference, &ACCEPT_MANIFESTS).await;
        assert!(result.is_err(), "{name}");
    }
    let (_server, reference) = serve(image.clone(), move |_| Some(reply(&raw))).await?;
    assert!(
        client()
            .fetch_manifest(&reference, &ACCEPT_MANIFESTS)
            .await
            .is_ok()
    );
    let pinned = reference.with_digest(Digest::of(b"other"));
    let result = client().fetch_manifest(&pinned, &ACCEPT_MANIFESTS).await;
    assert!(
        matches!(result, Err(RegistryError::Content { .. })),
        "{result:?}"
    );
    Ok(())
}

#[tokio::test]
async fn answers_to_head_are_used_only_when_complete() -> Result<()> {
    let image = image()?;
    for (name, head) in [
        ("nothing", Reply::new(200, "")),
        ("not allowed", Reply::new(405, "")),
        (
            "generic type",
            Reply::new(200, "")
                .header("Content-Type", "text/plain")
                .header("Docker-Content-Digest", Digest::of(b"x").to_string()),
        ),
        (
            "bad digest",
            Reply::new(200, "").header("Docker-Content-Digest", "sha256:../../x"),
        ),
    ] {
        let (server, reference) = serve(image.clone(), move |seen| {
            (seen.method == "HEAD").then(|| head.clone())
        })
        .await?;
        let found = client().resolve(&reference, &ACCEPT_MANIFESTS).await?;
        assert_eq!(found, image.manifest.0, "{name}");
        assert_eq!(server.seen_of("GET", "/manifests/1").len(), 1, "{name}");
    }
    let (server, reference) = serve(image.clone(), |_| None).await?;
    assert_eq!(
        client().resolve(&reference, &ACCEPT_MANIFESTS).await?,
        image.manifest.0
    );
    assert_eq!(server.seen_of("GET", "").len(), 0);
    Ok(())
}

#[tokio::test]
async fn errors_say_what_the_registry_said() -> Result<()> {
    let (_server, reference) = serve(image()?, |_| None).await?;
    let missing = reference.with_tag("2")?;
    let error = client().fetch_manifest(&missing, &ACCEPT_MANIFESTS).await;
    let error = error
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(
        error.contains("/v2/app/manifests/2 failed with status 404"),
        "{error}"
    );
    assert!(
        error.contains("MANIFEST_UNKNOWN: no such[31m thing"),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn redirects_are_bounded_and_checked() -> Result<()> {
    let image = image()?;
    let (storage, _) = serve(image.clone(), |_| None).await?;
    let target = format!(
        "{}/v2/app/blobs/{}?X-Signature=secret",
        storage.url(),
        image.layers[0].0.digest
    );
    for status in [301, 302, 303, 307, 308] {
        let target = target.clone();
        let (_server, reference) = serve(image.clone(), move |_| {
            Some(Reply::new(status, "").header("Location", target.as_str()))
        })
        .await?;
        assert!(
            pull_layer(&image, &reference).await? == image.layers[0].1,
            "{status}"
        );
    }
    for target in [
        "",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
        "/v2/app/blobs/again",
    ] {
        let (server, reference) = serve(image.clone(), move |_| {
            Some(Reply::new(307, "").header("Location", target))
        })
        .await?;
        assert!(pull_layer(&image, &reference).await.is_err(), "{target}");
        assert!(server.seen().len() <= 9, "{target}");
    }
    Ok(())
}

#[tokio::test]
async fn absurd_descriptors_are_refused() -> Result<()> {
    let (server, reference) = serve(image()?, |_| None).await?;
    let blob = Descriptor::new("x", Digest::of(b"x"), u64::MAX);
    let result = client()
        .fetch_blob(&reference, &blob, &mut MemorySink::default(), &|_| {})
        .await;
    assert!(matches!(result, Err(RegistryError::TooLarge { .. })));
    assert!(server.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn tags_are_read_over_pages() -> Result<()> {
    let page = |tags: &str, next: Option<&'static str>| {
        let reply = Reply::new(200, format!(r#"{{"name":"app","tags":{tags}}}"#));
        match next {
            Some(query) => {
                let link = format!("</v2/app/tags/list?{query}>; rel=\"next\"");
                reply.header("Link", link)
            }
            None => reply,
        }
    };
    let (server, reference) = serve(image()?, move |seen| {
        Some(match seen.query.as_str() {
            "n=1000" => page(r#"["b","a"]"#, Some("last=b&n=2")),
            "last=b&n=2" => page(r#"["d","../evil","c","a"]"#, Some("last=d&n=2")),
            _ => page("null", None),
        })
    })
    .await?;
    assert_eq!(client().tags(&reference).await?, ["a", "b", "c", "d"]);
    assert_eq!(server.seen().len(), 3);
    // Pages without end.
    let (server, reference) =
        serve(image()?, move |_| Some(page(r#"["a"]"#, Some("last=a")))).await?;
    assert!(client().tags(&reference).await.is_err());
    assert!(server.seen().len() <= 1000);
    Ok(())
}

/// A registry that keeps what arrived of an upload; four requests arrive in part.
fn patchy(seen: &Seen, store: &mut Vec<u8>) -> Reply {
    let at = |store: &[u8]| format!("/v2/app/blobs/uploads/1?state={}", store.len());
    let current = at(store);
    // Every address is good for one state only.
    let fresh = current.ends_with(seen.query.split('&').next().unwrap_or_default());
    match seen.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").header("Location", current),
        "GET" => Reply::new(204, "")
            .header("Range", format!("0-{}", store.len().saturating_sub(1)))
            .header("Location", current),
        "PATCH" if fresh => {
            let start = seen
                .header("content-range")
                .split('-')
                .next()
                .unwrap_or_default();
            if start.parse().unwrap_or(0) != store.len() {
                return Reply::new(416, "");
            }
            let broken = seen.earlier < 4;
            let arrives = if broken { 200_000 } else { seen.body.len() };
            store.extend_from_slice(&seen.body[..arrives]);
            if broken {
                Reply::new(502, "")
            } else {
                Reply::new(202, "").header("Location", at(store))
            }
        }
        "PUT" if fresh => Reply::new(201, ""),
        _ => Reply::new(404, ""),
    }
}

#[tokio::test]
async fn broken_uploads_go_on_where_they_ended() -> Result<()> {
    let data = bytes::Bytes::from(noise(1 << 20));
    let blob = Descriptor::of(media_type::OCI_LAYER, &data);
    let store = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&store);
    let (server, reference) = serve(image()?, move |seen| {
        Some(patchy(
            seen,
            &mut shared.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    })
    .await?;
    let pushed = client()
        .push_blob(&reference, &blob, &data, &[], &|_| {})
        .await?;
    assert_eq!(pushed, Pushed::Uploaded);
    assert!(*store.lock().unwrap_or_else(PoisonError::into_inner) == data);
    assert_eq!(server.seen_of("POST", "").len(), 1);
    assert_eq!(server.seen_of("PATCH", "").len(), 5);
    let put = server
        .seen_of("PUT", "")
        .pop()
        .map(|seen| seen.query)
        .unwrap_or_default();
    let digest = blob.digest.as_str().replace(':', "%3A");
    assert_eq!(put, format!("state={}&digest={digest}", data.len()));
    Ok(())
}

/// A server of a blob that sends a byte in each second. It `breaks` off after each, or goes on.
async fn dripping(size: u64, breaks: bool) -> Result<Reference> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let reference = format!("{}/app:1", listener.local_addr()?).parse()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16 << 10];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let from = text
                .split_once("range: bytes=")
                .map_or("0", |(_, rest)| rest);
            let from: u64 = from
                .split('-')
                .next()
                .unwrap_or_default()
                .parse()
                .unwrap_or(0);
            let head = format!(
                "HTTP/1.1 {}\r\nContent-Range: bytes {from}-{}/{size}\r\nContent-Length: {}\r\n\r\n",
                if from > 0 { "206 Part" } else { "200 OK" },
                size - 1,
                size - from,
            );
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(b"x").await.is_ok() && !breaks {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    });
    Ok(reference)
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_drips_is_given_up() -> Result<()> {
    let size = 1_000_000;
    let digest = Digest::of(b"what is never there");
    let descriptor = Descriptor::new(media_type::OCI_LAYER, digest, size);
    for breaks in [false, true] {
        let reference = dripping(size, breaks).await?;
        let retry = kiln_registry::RetryPolicy {
            pause: std::time::Duration::from_millis(500),
            ..super::config().retry
        };
        let config = kiln_registry::RegistryConfig {
            retry,
            ..super::config()
        };
        let mut sink = MemorySink::default();
        let client = kiln_registry::Client::anonymous(config);
        let pulled = client.fetch_blob(&reference, &descriptor, &mut sink, &|_| {});
        let error = pulled.await.err();
        assert!(
            matches!(error, Some(RegistryError::Drips { .. })),
            "{breaks}: {error:?}"
        );
        // It was not given up at once.
        assert!(sink.into_bytes().len() > 30, "{breaks}");
    }
    Ok(())
}

#[tokio::test]
async fn few_tags_are_told_in_one_answer_or_not_at_all() -> Result<()> {
    let listed = |tags: &str| Reply::new(200, format!(r#"{{"name":"app","tags":{tags}}}"#));
    let long = format!(r#"["{}"]"#, "a".repeat(2000));
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;
    let next = r#"</v2/app/tags/list?last=a&n=1>; rel="next""#;
    let names = |names: &[&str]| Some(Some(names.iter().map(ToString::to_string).collect()));
    let cases: [(Reply, Option<Option<Vec<String>>>); 8] = [
        (listed(r#"["b","a"]"#), names(&["b", "a"])),
        (listed("null"), names(&[])),
        // There is nothing yet.
        (Reply::new(404, unknown), names(&[])),
        // There is more, which would be asked for with another question.
        (listed(r#"["a"]"#).header("Link", next), Some(None)),
        (listed(&long), Some(None)),
        // Nothing is known.
        (Reply::new(404, "no such page"), None),
        (Reply::new(405, ""), None),
        (listed("7"), None),
    ];
    for (reply, expected) in cases {
        let text = format!("{reply:?}");
        let (server, reference) = serve(image()?, move |_| Some(reply.clone())).await?;
        let told = client().few_tags(&reference, 1000).await;
        assert_eq!(told.ok(), expected, "{text}");
        assert_eq!(server.seen().len(), 1, "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_blob_takes_two_requests_and_more_where_it_is_not_taken() -> Result<()> {
    let bytes = bytes::Bytes::from(noise(1000));
    let blob = Descriptor::of(media_type::OCI_LAYER, &bytes);
    let methods = |server: &FaultServer| -> Vec<String> {
        let seen = server.seen();
        seen.iter().map(|one| one.method.to_string()).collect()
    };
    // An upload that takes nothing but what is sent before its end.
    for (picky, expected) in [
        (false, &["POST", "PUT"][..]),
        (true, &["POST", "PUT", "HEAD", "POST", "PATCH", "PUT"]),
    ] {
        let (server, reference) = serve(image()?, move |seen| {
            let begun = Reply::new(202, "").header("Location", "/v2/app/blobs/uploads/1");
            Some(match seen.method.as_str() {
                "HEAD" => Reply::new(404, ""),
                "PUT" if picky && !seen.body.is_empty() => Reply::new(400, ""),
                "PUT" => Reply::new(201, ""),
                _ => begun,
            })
        })
        .await?;
        let client = client();
        let pushed = client.push_new_blob(&reference, &blob, bytes.clone(), &[]);
        assert_eq!(pushed.await?, Pushed::Uploaded);
        assert_eq!(methods(&server), expected);
        let put = &server.seen_of("PUT", "uploads/1")[0];
        assert_eq!(put.body, bytes);
        assert!(put.query.contains("digest=sha256"), "{}", put.query);
    }
    // What another repository has is not sent; where that is not so, the upload goes on.
    for (status, expected) in [
        (201, &["POST"][..]),
        (202, &["POST", "PUT"]),
        (403, &["POST", "POST", "PUT"]),
    ] {
        let (server, reference) = serve(image()?, move |seen| {
            let begun = Reply::new(202, "").header("Location", "/v2/app/blobs/uploads/1");
            Some(
                match (seen.method.as_str(), seen.query.contains("mount=")) {
                    ("PUT", _) => Reply::new(201, ""),
                    (_, true) if status != 202 => Reply::new(status, ""),
                    _ => begun,
                },
            )
        })
        .await?;
        let from: Reference = format!("{}/other", server.host()).parse()?;
        let pushed = client()
            .push_new_blob(&reference, &blob, bytes.clone(), &[from])
            .await?;
        let mounted = status == 201;
        assert_eq!(pushed == Pushed::Mounted, mounted, "{status}");
        assert_eq!(methods(&server), expected, "{status}");
    }
    Ok(())
}
