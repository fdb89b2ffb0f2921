use axum::Router;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A file of the page, as it is in the program.
#[derive(Debug, Clone, Copy)]
struct Asset {
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

pub(super) fn routes() -> Router {
    ASSETS.into_iter().fold(Router::new(), |router, asset| {
        let tag = asset.tag();
        router.route(asset.path, get(move |headers: HeaderMap| async move { asset.answer(&tag, &headers) }))
    })
}

impl Asset {
    /// Differs between contents, so that a browser asks again and rarely loads again.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }

    fn answer(&self, tag: &str, request: &HeaderMap) -> Response {
        let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_known = known.flat_map(|list| list.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag);
        let headers = [
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, tag),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        if is_known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type: [(HeaderName, _); 1] = [(header::CONTENT_TYPE, self.content_type)];
        (headers, content_type, self.body).into_response()
    }
}

/// Everything from this origin, nothing inline, nowhere to send a form, in nobody's frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 6] = [
    Asset { path: "/", content_type: HTML, body: include_str!("page.html") },
    Asset { path: "/demo/page.css", content_type: CSS, body: include_str!("page.css") },
    Asset { path: "/demo/page.js", content_type: SCRIPT, body: include_str!("page.js") },
    Asset { path: "/demo/hub.js", content_type: SCRIPT, body: include_str!("hub.js") },
    Asset { path: "/demo/channels.js", content_type: SCRIPT, body: include_str!("channels.js") },
    Asset { path: "/demo/icon.svg", content_type: "image/svg+xml", body: include_str!("icon.svg") },
];
