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
            let page: TagList = serde_json::from_slice(&body)
                .map_err(|error| RegistryError::protocol(&url, format!("tag list: {error}")))?;
            let page = page.tags.unwrap_or_default();
            tags.extend(
                page.into_iter()
                    .filter(|tag| reference.with_tag(tag).is_ok()),
            );
        }
        Err(RegistryError::protocol(
            &endpoint.base,
            "has an endless list of tags",
        ))
    }
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
