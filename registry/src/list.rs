//! Lists tags.

use kiln_image::Reference;
use reqwest::header::LINK;
use reqwest::{Method, Response};
use serde::Deserialize;
use url::Url;

use crate::auth::pull_scope;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::http::{expect, read_bounded};
use crate::transport::Call;

/// Tags to ask for at once. Some registries refuse larger pages.
const PAGE: usize = 1000;
/// Pages that are read at most.
pub(crate) const MAX_PAGES: usize = 1000;
const MAX_BODY: u64 = 4 << 20;

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// The tags of the repository of a reference, in any order, if the registry tells all of them in one answer of at most
    /// `limit` bytes. A repository that is not there has none.
    ///
    /// # Errors
    /// When the registry refuses or its answer is not valid.
    pub async fn few_tags(
        &self,
        reference: &Reference,
        limit: u64,
    ) -> Result<Option<Vec<String>>, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let scopes = pull_scope(reference.repository());
        let url = endpoint.url(&format!("{}/tags/list?n={PAGE}", reference.repository()))?;
        let call = Call::new(Method::GET, url.clone(), &scopes);
        let answer = self.inner.transport.send(&endpoint, call).await?;
        let answer = match expect("GET", answer, &[200]).await {
            Err(error) if error.is_unknown_name() => return Ok(Some(Vec::new())),
            answer => answer?,
        };
        // Whatever it says of more than this: it has not told all.
        if answer.headers().contains_key(LINK) {
            return Ok(None);
        }
        let body = match read_bounded(answer, limit).await {
            Err(RegistryError::TooLarge { .. }) => return Ok(None),
            body => body?,
        };
        Ok(Some(tag_page(&url, &body)?))
    }

    /// All tags of the repository of a reference, sorted. Names that are no valid tags are left
    /// out.
    ///
    /// # Errors
    /// When the registry refuses or its answer is not valid.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let scopes = pull_scope(reference.repository());
        let mut next =
            Some(endpoint.url(&format!("{}/tags/list?n={PAGE}", reference.repository()))?);
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(url) = next else {
                tags.sort_unstable();
                tags.dedup();
                return Ok(tags);
            };
            let call = Call::new(Method::GET, url.clone(), &scopes);
            let answer = self.inner.transport.send(&endpoint, call).await?;
            let answer = expect("GET", answer, &[200]).await?;
            next = next_page(&endpoint, &answer)?;
            let body = read_bounded(answer, MAX_BODY).await?;
            let page = tag_page(&url, &body)?.into_iter();
            tags.extend(page.filter(|tag| reference.with_tag(tag).is_ok()));
        }
        Err(RegistryError::protocol(
            &endpoint.base,
            "has an endless list of tags",
        ))
    }
}

fn tag_page(url: &Url, body: &[u8]) -> Result<Vec<String>, RegistryError> {
    let page: TagList = serde_json::from_slice(body)
        .map_err(|error| RegistryError::protocol(url, format!("tag list: {error}")))?;
    Ok(page.tags.unwrap_or_default())
}

/// The address of the next page (RFC 8288, relation `next`).
pub(crate) fn next_page(
    endpoint: &Endpoint,
    answer: &Response,
) -> Result<Option<Url>, RegistryError> {
    let header = answer
        .headers()
        .get(LINK)
        .and_then(|value| value.to_str().ok());
    let Some(target) = header.and_then(next_link) else {
        return Ok(None);
    };
    let url = answer
        .url()
        .join(target)
        .map_err(|_| RegistryError::protocol(answer.url(), "names no usable next page"))?;
    endpoint.check_target(url).map(Some)
}

fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        parameters
            .any(|p| p == "rel=next" || p == "rel=\"next\"")
            .then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        for (header, target) in [
            (
                r#"</v2/a/tags/list?last=b&n=1>; rel="next""#,
                Some("/v2/a/tags/list?last=b&n=1"),
            ),
            (r#"<x>; rel="prev", <y>; title="t"; rel=next"#, Some("y")),
            (r#"<x>; rel="prev""#, None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), target, "{header}");
        }
    }
}
