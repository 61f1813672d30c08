//! Tokens for scopes: fetched once, shared, and fetched again when they end.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use url::Url;

use super::{Challenge, Credential, CredentialSource};
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, redact};
use crate::http::{Http, read_bounded, status_error};

const MAX_TOKEN: u64 = 1 << 20;
/// How long a token counts when its server does not say (distribution's token specification).
const DEFAULT_LIFETIME: u64 = 60;
/// What token servers know us as.
const CLIENT_ID: &str = "kiln";

/// What a request needs to be allowed, for one repository and perhaps others beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ScopeSet {
    repository: String,
    scopes: BTreeSet<String>,
}

/// To read from a repository.
pub(crate) fn pull_scope(repository: &str) -> ScopeSet {
    let scopes = BTreeSet::from([format!("repository:{repository}:pull")]);
    ScopeSet {
        repository: repository.into(),
        scopes,
    }
}

/// To write to a repository.
pub(crate) fn push_scope(repository: &str) -> ScopeSet {
    let scopes = BTreeSet::from([format!("repository:{repository}:pull,push")]);
    ScopeSet {
        repository: repository.into(),
        scopes,
    }
}

impl ScopeSet {
    /// Adds a scope unless an action list that is there already covers it.
    fn add(&mut self, scope: &str) {
        let split = |scope: &str| {
            let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
            let actions = actions
                .split(',')
                .map(str::to_owned)
                .collect::<BTreeSet<_>>();
            (resource.to_owned(), actions)
        };
        let (resource, actions) = split(scope);
        let covered = self.scopes.iter().any(|present| {
            let (other, allowed) = split(present);
            other == resource && actions.is_subset(&allowed)
        });
        if !covered {
            self.scopes.insert(scope.into());
        }
    }

    /// Also to read from another repository, to mount its blobs.
    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.scopes.insert(format!("repository:{repository}:pull"));
        self
    }
}

/// Answers challenges.
pub(crate) struct Authenticator {
    source: Arc<dyn CredentialSource>,
    schemes: Mutex<HashMap<String, Scheme>>,
    credentials: Mutex<HashMap<(String, String), Option<Credential>>>,
    tokens: Mutex<HashMap<(String, ScopeSet), Slot>>,
}

/// One token; whoever fetches it holds the lock, so that others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What a registry wants.
#[derive(Clone)]
enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

struct Token {
    header: HeaderValue,
    expires: Instant,
}

#[derive(Deserialize)]
struct TokenReply {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Authenticator {
    pub(crate) fn new(source: Arc<dyn CredentialSource>) -> Self {
        Self {
            source,
            schemes: Mutex::default(),
            credentials: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// Remembers what a registry asked for, and adds the scopes that it named.
    pub(crate) fn learn(
        &self,
        endpoint: &Endpoint,
        challenges: &[Challenge],
        scopes: &mut ScopeSet,
    ) -> Result<(), RegistryError> {
        let bearer = challenges
            .iter()
            .find(|one| matches!(one, Challenge::Bearer { .. }));
        let scheme = match bearer.or_else(|| challenges.first()) {
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let realm = Url::parse(realm).map_err(|_| RegistryError::Protocol {
                    url: redact(&endpoint.base),
                    problem: "names a token server that is not an address".into(),
                })?;
                let realm = endpoint.check_target(realm)?;
                let named = scope.iter().flat_map(|scope| scope.split_whitespace());
                // A registry that names endless scopes gets a bounded request.
                for scope in named.take(16) {
                    scopes.add(scope);
                }
                Scheme::Bearer {
                    realm,
                    service: service.clone(),
                }
            }
            Some(Challenge::Basic) => Scheme::Basic,
            None => return Ok(()),
        };
        let origin = endpoint.base.to_string();
        self.schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(origin, scheme);
        Ok(())
    }

    /// The `Authorization` for a request; `None` before the registry has asked for one. `refused`
    /// is a header that the registry did not accept.
    pub(crate) async fn header(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        scopes: &ScopeSet,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let origin = endpoint.base.to_string();
        let scheme = {
            let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            schemes.get(&origin).cloned()
        };
        let Some(scheme) = scheme else {
            return Ok(None);
        };
        let denied = |reason: &str| RegistryError::Denied {
            registry: endpoint.key.clone(),
            reason: reason.into(),
        };
        let credential = self.credential(endpoint, &scopes.repository).await?;
        let is_basic = matches!(scheme, Scheme::Basic);
        let credential = credential.map(|found| found.for_scheme(is_basic));
        let (realm, service) = match (scheme, &credential) {
            (_, Some(Credential::Registry { token })) => {
                let header = bearer(token).ok_or_else(|| denied("the token is malformed"))?;
                if refused == Some(&header) {
                    return Err(denied("the registry does not accept the token"));
                }
                return Ok(Some(header));
            }
            (Scheme::Basic, Some(Credential::Basic { username, password })) => {
                let header = basic(username, password);
                if refused == Some(&header) {
                    return Err(denied("user name or password are wrong"));
                }
                return Ok(Some(header));
            }
            (Scheme::Basic, None) => return Err(denied("it needs a login")),
            (Scheme::Basic, Some(Credential::Identity { .. } | Credential::Either { .. })) => {
                return Err(denied(
                    "it wants a password, but there is only an identity token",
                ));
            }
            (Scheme::Bearer { realm, service }, _) => (realm, service),
        };
        let slot = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // A long-lived client must not collect the tokens of every repository it ever saw.
            if tokens.len() > 1000 {
                tokens.retain(|_, slot| {
                    slot.try_lock()
                        .is_ok_and(|t| t.as_ref().is_some_and(|t| t.expires > now))
                });
            }
            Arc::clone(tokens.entry((origin, scopes.clone())).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref()
            && token.expires > Instant::now()
            && refused != Some(&token.header)
        {
            return Ok(Some(token.header.clone()));
        }
        let ask = Ask {
            http,
            endpoint,
            realm,
            service,
            scopes,
            credential,
        };
        let token = ask.fetch().await?;
        let header = token.header.clone();
        *slot = Some(token);
        Ok(Some(header))
    }

    async fn credential(
        &self,
        endpoint: &Endpoint,
        repository: &str,
    ) -> Result<Option<Credential>, RegistryError> {
        let key = (endpoint.key.clone(), repository.to_owned());
        {
            let known = self
                .credentials
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = known.get(&key) {
                return Ok(known.clone());
            }
        }
        let (source, (registry, repository)) = (Arc::clone(&self.source), key.clone());
        let looked_up =
            tokio::task::spawn_blocking(move || source.credential(&registry, &repository)).await;
        let found = looked_up
            .map_err(|_| RegistryError::Denied {
                registry: endpoint.key.clone(),
                reason: "the credential lookup was cut short".into(),
            })?
            .map_err(|source| RegistryError::Credentials {
                registry: endpoint.key.clone(),
                source,
            })?;
        let mut known = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(key, found.clone());
        Ok(found)
    }
}

/// One request for a token.
struct Ask<'a> {
    http: &'a Http,
    endpoint: &'a Endpoint,
    realm: Url,
    service: Option<String>,
    scopes: &'a ScopeSet,
    credential: Option<Credential>,
}

impl Ask<'_> {
    async fn fetch(&self) -> Result<Token, RegistryError> {
        // The request that needs the token is repeated, so this one is not.
        let (method, request) = self.request()?;
        let answer = request.send().await.map_err(|source| match source {
            // One that says nothing is asked once: all that wait for a token wait for it one by one.
            silent if silent.is_timeout() && !silent.is_connect() => RegistryError::Silent {
                url: redact(&self.realm),
                after: self.http.config.read_timeout,
            },
            source => RegistryError::Transport {
                method: method.to_string(),
                url: redact(&self.realm),
                source: source.without_url(),
            },
        })?;
        match answer.status().as_u16() {
            200 => {}
            401 | 403 => {
                let error = status_error(method.as_str(), answer).await;
                let reason = match (&self.credential, error) {
                    (None, _) => "it needs a login".into(),
                    (Some(_), error) => format!("the credentials are not accepted ({error})"),
                };
                return Err(RegistryError::Denied {
                    registry: self.endpoint.key.clone(),
                    reason,
                });
            }
            _ => return Err(status_error(method.as_str(), answer).await),
        }
        let url = answer.url().clone();
        let body = read_bounded(answer, MAX_TOKEN).await?;
        let broken = || RegistryError::protocol(&url, "its answer holds no usable token");
        // The parser's message could quote the token.
        let reply: TokenReply = serde_json::from_slice(&body).map_err(|_| broken())?;
        let text = reply
            .token
            .filter(|token| !token.is_empty())
            .or(reply.access_token);
        let header = text.as_deref().and_then(bearer).ok_or_else(broken)?;
        let lifetime = reply
            .expires_in
            .unwrap_or(DEFAULT_LIFETIME)
            .clamp(DEFAULT_LIFETIME, 86400);
        // A tenth early, so that a token does not end on its way.
        let expires = Instant::now() + Duration::from_secs(lifetime - lifetime / 10);
        Ok(Token { header, expires })
    }

    fn request(&self) -> Result<(Method, RequestBuilder), RegistryError> {
        let client = self.http.client(self.endpoint, &self.realm, false)?;
        let service = self
            .service
            .as_deref()
            .filter(|service| !service.is_empty());
        if let Some(Credential::Identity { token }) = &self.credential {
            let scopes: Vec<&str> = self.scopes.scopes.iter().map(String::as_str).collect();
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", CLIENT_ID)
                .append_pair("access_type", "offline")
                .append_pair("refresh_token", token)
                .append_pair("scope", &scopes.join(" "));
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            let request = client
                .post(self.realm.clone())
                .header(
                    reqwest::header::CONTENT_TYPE,
                    "application/x-www-form-urlencoded",
                )
                .body(form.finish());
            return Ok((Method::POST, request));
        }
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in &self.scopes.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(Credential::Basic { username, .. }) = &self.credential {
                query.append_pair("account", username);
            }
        }
        let request = client.get(url);
        Ok((
            Method::GET,
            match &self.credential {
                Some(Credential::Basic { username, password }) => {
                    request.header(AUTHORIZATION, basic(username, password))
                }
                _ => request,
            },
        ))
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let text = format!("{username}:{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    // Base64 is always a valid header value.
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_cover_each_other() {
        let mut scopes = push_scope("a/b").and_pull("c");
        let before = scopes.clone();
        for covered in [
            "repository:a/b:pull",
            "repository:a/b:push,pull",
            "repository:c:pull",
        ] {
            scopes.add(covered);
            assert_eq!(scopes, before, "{covered}");
        }
        for new in [
            "repository:c:push",
            "repository:a:pull",
            "registry:catalog:*",
            "odd",
        ] {
            scopes.add(new);
            assert!(scopes.scopes.contains(new), "{new}");
        }
    }
}
