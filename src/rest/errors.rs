use crate::backplane::BackplaneError;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::json;
use std::borrow::Cow;

/// An answer that is not the one asked for. Callers tell "does not exist" from a wrong address by the code in the header alone.
/// Boxed, as it is rare and the results that may hold it are many.
#[derive(Debug)]
pub(super) struct Refusal(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    detail: Option<Detail>,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
struct Detail {
    code: &'static str,
    message: Cow<'static, str>,
    target: Option<&'static str>,
}

impl Refusal {
    /// Without a body, as callers know it of requests that come to no operation.
    pub(super) fn bare(status: StatusCode) -> Self {
        Self(Box::new(Inner { status, detail: None, header: None }))
    }

    /// A name, a parameter or a body is wrong.
    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, INVALID, message)
    }

    pub(super) fn of(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let detail = Detail { code, message: message.into(), target: None };
        Self(Box::new(Inner { status, detail: Some(detail), header: None }))
    }

    /// Something does not exist; `code` says what, and `message` to people.
    pub(super) fn missing(code: &'static str, message: String) -> Self {
        let mut refusal = Self::of(StatusCode::NOT_FOUND, code, message);
        if let Some(detail) = &mut refusal.0.detail {
            detail.target = code.split('.').nth(1);
        }
        refusal
    }

    /// Too much at once, or not now.
    pub(super) fn later(status: StatusCode, message: &'static str) -> Self {
        Self::of(status, UNKNOWN, message).with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = match &self.0.detail {
            None => empty(self.0.status),
            Some(detail) => {
                let mut body = json!({"code": detail.code, "message": detail.message});
                if let Some(target) = detail.target {
                    body["target"] = target.into();
                }
                let mut response = json_body(self.0.status, body.to_string());
                response.headers_mut().insert(ERROR_CODE, HeaderValue::from_static(detail.code));
                response
            }
        };
        if let Some((name, value)) = self.0.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<BackplaneError> for Refusal {
    fn from(error: BackplaneError) -> Self {
        match error {
            // written before it is sent, so only what a client answers with can come to that
            BackplaneError::Encode(_) | BackplaneError::NotGiven(_) => {
                Self::invalid("The message cannot be written in the protocol of a connection that it is for.")
            }
            BackplaneError::NoConnection(id) => no_connection(&id),
        }
    }
}

/// The error that tells a caller for sure that a connection is not there.
pub(super) fn no_connection(id: &str) -> Refusal {
    Refusal::missing("Error.Connection.NotExisted", format!("Connection `{id}` is not found."))
}

/// An answer without a body; its length is said, since some callers wait for a body otherwise.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

pub(super) fn json_body(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_body(status, "application/json", body.into())
}

pub(super) fn with_body(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");
pub(super) const INVALID: &str = "Error.Request.Invalid";
pub(super) const UNKNOWN: &str = "Error.Request.Unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_text_of_the_program_is_sent_without_a_copy() {
        let document = super::super::openapi::document();
        for _ in 0..2 {
            let body = axum::body::to_bytes(json_body(StatusCode::OK, document).into_body(), usize::MAX).await.unwrap();
            assert_eq!((body.as_ptr(), body.len()), (document.as_ptr(), document.len()));
        }
    }
}
