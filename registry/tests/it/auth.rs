//! Challenges, tokens, and where credentials may go.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use kiln_image::descriptor::media_type::{self, ACCEPT_MANIFESTS};
use kiln_image::{Descriptor, Reference};
use kiln_registry::{
    Client, Credential, CredentialError, CredentialSource, MemorySink, Pushed, RegistryError,
};
use kiln_testkit::{FaultServer, RegistryProcess, Reply, Seen, TinyImage, Verdict};

use super::config;

struct Fixed(Option<Credential>);

impl CredentialSource for Fixed {
    fn credential(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(self.0.clone())
    }
}

fn client(credential: Option<Credential>) -> Client {
    Client::new(config(), Arc::new(Fixed(credential)))
}

fn basic(password: &str) -> Option<Credential> {
    Some(Credential::Basic {
        username: "user".into(),
        password: password.into(),
    })
}

/// `user:right` and `user:wrong` in base64.
const RIGHT: &str = "Basic dXNlcjpyaWdodA==";

/// A token server: the token is the list of scopes.
async fn token_server() -> Result<FaultServer> {
    FaultServer::start(None, |seen| {
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        let text = if seen.method == "POST" {
            &form
        } else {
            &seen.query
        };
        let allowed = match seen.header("authorization") {
            "" if seen.method == "POST" => form.contains("refresh_token=identity"),
            "" => !text.contains("push"),
            header => header == RIGHT,
        };
        if !allowed {
            return Verdict::Reply(Reply::new(401, r#"{"errors":[{"code":"DENIED"}]}"#));
        }
        let scopes: Vec<_> = text
            .split('&')
            .filter_map(|part| part.strip_prefix("scope="))
            .map(|scope| {
                scope
                    .replace("%3A", ".")
                    .replace("%2C", ".")
                    .replace("%2F", "_")
            })
            .collect();
        let token = scopes.join("-").replace('+', "-");
        Verdict::Reply(Reply::new(
            200,
            format!(r#"{{"token":"{token}","expires_in":300}}"#),
        ))
    })
    .await
}

/// A registry behind a token server; pull and push need a token with the repository's scope.
async fn guarded(registry: &RegistryProcess, tokens: &FaultServer) -> Result<FaultServer> {
    let realm = format!("{}/token", tokens.url());
    FaultServer::start(Some(registry.url()), move |seen: &Seen| {
        let write = !matches!(seen.method.as_str(), "GET" | "HEAD");
        let name = seen.path.split('/').nth(2).unwrap_or_default();
        let need = if write {
            format!("repository.{name}.pull.push")
        } else {
            format!("repository.{name}.pull")
        };
        let given = seen
            .header("authorization")
            .strip_prefix("Bearer ")
            .unwrap_or_default();
        if given.contains(&need) {
            return Verdict::Forward;
        }
        let scope = need.replacen('.', ":", 2).replace('.', ",");
        let challenge = format!(r#"Bearer realm="{realm}",service="test",scope="{scope}""#);
        Verdict::Reply(Reply::new(401, "").header("WWW-Authenticate", challenge))
    })
    .await
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn tokens_are_fetched_for_scopes_and_shared() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let tokens = token_server().await?;
    let server = guarded(&registry, &tokens).await?;
    let image = TinyImage::of_layers(&[&[("a", b"one")], &[("b", b"two")]])?;
    let reference: Reference = format!("{}/app:1", server.host()).parse()?;
    let pushing = client(basic("right"));
    image.push(&pushing, &reference).await?;
    assert_eq!(tokens.seen().len(), 1, "one token for all of a push");
    assert_eq!(tokens.seen()[0].header("authorization"), RIGHT);
    assert!(tokens.seen()[0].query.contains("service=test"));

    let anonymous = client(None);
    anonymous
        .fetch_manifest(&reference, &ACCEPT_MANIFESTS)
        .await?;
    let layer = &image.layers[0];
    let pulls = (0..4).map(|_| async {
        let mut sink = MemorySink::default();
        anonymous
            .fetch_blob(&reference, &layer.0, &mut sink, &|_| {})
            .await
            .map(|()| sink)
    });
    let mut tasks = Vec::new();
    for pull in pulls {
        tasks.push(pull.await?.into_bytes());
    }
    assert!(tasks.iter().all(|bytes| *bytes == layer.1));
    assert_eq!(
        tokens.seen().len(),
        2,
        "one more token for all of the pulls"
    );
    assert_eq!(tokens.seen()[1].header("authorization"), "");

    for refused in [client(None), client(basic("wrong"))] {
        let result = refused.push_manifest(&reference, &image.manifest.1, media_type::OCI_MANIFEST);
        let error = result.await.err();
        assert!(
            error.as_ref().is_some_and(RegistryError::is_denied),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn mounting_asks_for_both_repositories() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let tokens = token_server().await?;
    let server = guarded(&registry, &tokens).await?;
    let client = client(basic("right"));
    let (first, second): (Reference, Reference) = (
        format!("{}/first", server.host()).parse()?,
        format!("{}/second", server.host()).parse()?,
    );
    let data = Bytes::from_static(b"some layer");
    let blob = Descriptor::of(media_type::OCI_LAYER, &data);
    client.push_blob(&first, &blob, &data, &[], &|_| {}).await?;
    let pushed = client
        .push_blob(&second, &blob, &data, &[first], &|_| {})
        .await?;
    assert_eq!(pushed, Pushed::Mounted);
    let last = tokens
        .seen()
        .pop()
        .map(|seen| seen.query)
        .unwrap_or_default();
    assert!(
        last.contains("first%3Apull") && last.contains("second%3Apull%2Cpush"),
        "{last}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn identity_and_registry_tokens_work() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let tokens = token_server().await?;
    let server = guarded(&registry, &tokens).await?;
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let reference: Reference = format!("{}/app:1", server.host()).parse()?;
    let identity = |token: &str| {
        client(Some(Credential::Identity {
            token: token.into(),
        }))
    };
    image.push(&identity("identity"), &reference).await?;
    let asked = tokens.seen();
    assert!(
        asked
            .iter()
            .all(|seen| seen.method == "POST" && seen.query.is_empty())
    );
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(
        form.contains("grant_type=refresh_token") && form.contains("service=test"),
        "{form}"
    );
    assert!(image.push(&identity("wrong"), &reference).await.is_err());

    let before = tokens.seen().len();
    let token = "repository.app.pull".to_owned();
    let direct = client(Some(Credential::Registry { token }));
    direct.fetch_manifest(&reference, &ACCEPT_MANIFESTS).await?;
    assert_eq!(tokens.seen().len(), before);
    Ok(())
}

#[tokio::test]
#[ignore = "needs docker-registry"]
async fn basic_challenges_are_answered() -> Result<()> {
    let registry = RegistryProcess::start()?;
    let server = FaultServer::start(Some(registry.url()), |seen| {
        if seen.header("authorization") == RIGHT {
            return Verdict::Forward;
        }
        Verdict::Reply(Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"r\""))
    })
    .await?;
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let reference: Reference = format!("{}/app:1", server.host()).parse()?;
    image.push(&client(basic("right")), &reference).await?;
    for credential in [
        None,
        basic("wrong"),
        Some(Credential::Identity { token: "t".into() }),
    ] {
        let error = client(credential)
            .resolve(&reference, &ACCEPT_MANIFESTS)
            .await
            .err();
        assert!(
            error.as_ref().is_some_and(RegistryError::is_denied),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn credentials_do_not_leave_the_registry() -> Result<()> {
    let image = TinyImage::of_files(&[("a", b"one")])?;
    let layer = image.layers[0].clone();
    let bytes = layer.1.clone();
    let storage = FaultServer::start(None, move |seen| {
        // Asks for credentials when it sees none: it must not get any.
        Verdict::Reply(if seen.path == "/blob" {
            Reply::new(200, bytes.clone())
        } else {
            Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"r\"")
        })
    })
    .await?;
    for (path, works) in [("/blob", true), ("/guarded", false)] {
        let target = format!("{}{path}?signature=secret", storage.url());
        let server = FaultServer::start(None, move |seen| {
            Verdict::Reply(if seen.header("authorization") == RIGHT {
                Reply::new(307, "").header("Location", target.as_str())
            } else {
                Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"r\"")
            })
        })
        .await?;
        let reference: Reference = format!("{}/app:1", server.host()).parse()?;
        let mut sink = MemorySink::default();
        let result = client(basic("right"))
            .fetch_blob(&reference, &layer.0, &mut sink, &|_| {})
            .await;
        assert_eq!(result.is_ok(), works, "{path}");
        let text = result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(storage.seen().len(), 2);
    assert!(
        storage
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_empty())
    );
    Ok(())
}

#[tokio::test]
async fn token_servers_may_misbehave() -> Result<()> {
    for (name, reply, asked) in [
        ("no token", Reply::new(200, "{}"), 1),
        ("no JSON", Reply::new(200, "secret"), 1),
        ("line break", Reply::new(200, r#"{"token":"a\nb"}"#), 1),
        (
            "too large",
            Reply::new(200, format!(r#"{{"token":"{}"}}"#, "x".repeat(1 << 20))),
            1,
        ),
        (
            "redirect",
            Reply::new(302, "").header("Location", "http://127.0.0.1:1/"),
            1,
        ),
        ("broken", Reply::new(503, ""), 3),
        (
            "useless token",
            Reply::new(200, r#"{"token":"useless"}"#),
            1,
        ),
    ] {
        let tokens = FaultServer::start(None, move |_| Verdict::Reply(reply.clone())).await?;
        let challenge = format!(r#"Bearer realm="{}/token""#, tokens.url());
        let server = FaultServer::start(None, move |_| {
            Verdict::Reply(Reply::new(401, "").header("WWW-Authenticate", challenge.as_str()))
        })
        .await?;
        let reference: Reference = format!("{}/app:1", server.host()).parse()?;
        let error = client(None)
            .fetch_manifest(&reference, &ACCEPT_MANIFESTS)
            .await
            .err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            !text.is_empty() && !text.contains("secret"),
            "{name}: {text}"
        );
        assert_eq!(tokens.seen().len(), asked, "{name}");
    }
    Ok(())
}

/// A token server that takes connections and never answers. It counts them.
async fn silent() -> Result<(String, Arc<std::sync::atomic::AtomicUsize>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            open.push(stream);
        }
    });
    Ok((url, asked))
}

#[tokio::test]
async fn a_token_server_that_says_nothing_is_asked_once() -> Result<()> {
    let (url, asked) = silent().await?;
    let challenge = format!("Bearer realm=\"{url}\",service=\"s\"");
    let server = FaultServer::start(None, move |_| {
        Verdict::Reply(Reply::new(401, "").header("WWW-Authenticate", challenge.as_str()))
    })
    .await?;
    let config = kiln_registry::RegistryConfig {
        read_timeout: std::time::Duration::from_millis(300),
        ..config()
    };
    let client = Client::new(config, Arc::new(Fixed(None)));
    let reference: Reference = format!("{}/app:1", server.host()).parse()?;
    let result = client.fetch_manifest(&reference, &ACCEPT_MANIFESTS).await;
    // It is told who kept us waiting.
    let error = result
        .map(drop)
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    assert!(
        error.contains(&url) && error.contains("said nothing"),
        "{error}"
    );
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    Ok(())
}
