use axum::Router;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A file of a page, as it is in the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asset {
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: &'static str,
}

impl Asset {
    pub(super) const fn icon(path: &'static str) -> Self {
        Self { path, content_type: "image/svg+xml", body: include_str!("icon.svg") }
    }

    /// Serves each at its path.
    pub(super) fn routes(assets: impl IntoIterator<Item = Self>) -> Router {
        assets.into_iter().fold(Router::new(), |router, asset| {
            let tag = asset.tag();
            router.route(asset.path, get(move |headers: HeaderMap| async move { asset.answer(&tag, &headers) }))
        })
    }

    /// Differs between contents, so that a browser asks again and rarely loads again.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }

    fn answer(&self, tag: &str, request: &HeaderMap) -> Response {
        let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_known = known.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag);
        let caching = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag)];
        if is_known {
            return (StatusCode::NOT_MODIFIED, SAFETY, caching).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        (SAFETY, caching, content_type, self.body).into_response()
    }
}

/// What every page is sent with: everything from this origin, nothing inline, nowhere to send a form, in nobody's frame.
pub(super) const SAFETY: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
