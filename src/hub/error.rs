use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// What a hub function returns.
pub type HubResult<T = ()> = Result<T, HubError>;

/// Why a call failed.
///
/// Deliberately not a `std::error::Error`, so that `?` turns any error into one. Such an error stays on the server: its caller sees only
/// that something went wrong, unless the hub's [detailed errors](crate::ConnectionOptions::detailed_errors) are on. The words of
/// [`HubError::client`] are meant for the client and always reach it.
///
/// ```
/// use hubwire::{HubError, HubResult};
///
/// fn page_size(text: &str) -> HubResult<u32> {
///     let size = text.parse()?; // a `ParseIntError`: not for the client
///     if size > 100 { Err(HubError::client("at most 100 a page")) } else { Ok(size) }
/// }
/// assert_eq!(page_size("500").unwrap_err().client_text(), Some("at most 100 a page"));
/// assert_eq!(page_size("many").unwrap_err().client_text(), None);
/// ```
pub struct HubError(Box<Repr>);

struct Repr {
    kind: Kind,
    /// What is said about it; for most errors the cause says it.
    text: Option<Cow<'static, str>>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Words for the client.
    Client,
    /// The arguments do not fit: the call fails before its method runs.
    Binding,
    /// Anything else, by the name of its type.
    Hidden(&'static str),
}

impl HubError {
    /// Makes an error whose text the client sees.
    pub fn client(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Client, Some(text.into()), None)
    }

    /// Makes an error of what does not implement `std::error::Error` itself, like `anyhow::Error` or a text. Its words stay on the server.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Hidden("Error"), None, Some(cause.into()))
    }

    /// An error of the hub's own, by the name under which clients of the reference know it.
    pub(crate) fn named(name: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Hidden(name), Some(text.into()), None)
    }

    /// Arguments that do not fit a method.
    pub(crate) fn binding(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Binding, Some(text.into()), None)
    }

    /// Returns the text meant for the client, if this was made by [`HubError::client`].
    pub fn client_text(&self) -> Option<&str> {
        if self.0.kind == Kind::Client { self.0.text.as_deref() } else { None }
    }

    /// Returns the error that `?` turned into this one: for logs.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// Whether the call failed before its method ran, because its arguments do not fit.
    pub(crate) fn is_binding(&self) -> bool {
        self.0.kind == Kind::Binding
    }

    /// What a client is told: `base`, with the error itself behind it if it is the client's to see (spec 6.1).
    pub(crate) fn told(&self, base: &str, detailed: bool) -> String {
        if self.0.kind == Kind::Client || detailed {
            format!("{base} {}: {}", self.name(), self.message())
        } else {
            base.to_owned()
        }
    }

    /// The name of its kind.
    pub(crate) fn name(&self) -> &'static str {
        match self.0.kind {
            Kind::Client => "HubException",
            Kind::Binding => "InvalidDataException",
            Kind::Hidden(name) => name,
        }
    }

    fn message(&self) -> Cow<'_, str> {
        match (&self.0.text, &self.0.cause) {
            (Some(text), _) => Cow::Borrowed(text),
            (None, Some(cause)) => Cow::Owned(cause.to_string()),
            (None, None) => Cow::Borrowed(""),
        }
    }

    fn new(kind: Kind, text: Option<Cow<'static, str>>, cause: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Box::new(Repr { kind, text, cause }))
    }
}

/// With detailed errors the caller sees the error's short type name and its text, as in `ParseIntError: invalid digit found in string`.
impl<E: Error + Send + Sync + 'static> From<E> for HubError {
    fn from(cause: E) -> Self {
        Self::new(Kind::Hidden(short_name(std::any::type_name::<E>())), None, Some(Box::new(cause)))
    }
}

/// Shows the kind and no text: either text may quote what a client sent.
impl fmt::Debug for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HubError").field(&format_args!("{}", self.name())).finish()
    }
}

/// A type's name without its path and parameters.
pub(super) fn short_name(name: &str) -> &str {
    let plain = name.split('<').next().unwrap_or(name);
    plain.rsplit("::").next().unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "An unexpected error occurred.";

    #[test]
    fn only_words_for_the_client_reach_it() {
        assert_eq!(HubError::client("boom").told(BASE, false), "An unexpected error occurred. HubException: boom");
        let hidden = HubError::from(std::io::Error::other("disk"));
        assert_eq!(hidden.told(BASE, false), BASE);
        assert_eq!(hidden.told(BASE, true), "An unexpected error occurred. Error: disk");
        assert_eq!(hidden.cause().unwrap().to_string(), "disk");
    }

    #[test]
    fn debug_shows_no_text() {
        assert_eq!(format!("{:?}", HubError::client("secret")), "HubError(HubException)");
        assert_eq!(format!("{:?}", HubError::internal("secret")), "HubError(Error)");
    }

    #[test]
    fn type_names_are_short() {
        assert_eq!(short_name("alloc::vec::Vec<alloc::string::String>"), "Vec");
        assert_eq!(short_name("i32"), "i32");
    }
}
