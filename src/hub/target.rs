use super::callable::arities;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A client method with the types that it takes, and the type of its answer where the server asks for one.
///
/// Declared once, it is checked wherever it is called. What is passed may be borrowed: a `&str` fits a `String`, so nothing is cloned in
/// order to be sent.
///
/// ```
/// use hubwire::{ClientMethod, Clients, HubResult};
///
/// const RECEIVE: ClientMethod<(String, String)> = ClientMethod::new("ReceiveMessage");
/// const CONFIRM: ClientMethod<(String,), bool> = ClientMethod::new("Confirm");
///
/// async fn post(clients: Clients, room: String, text: String) -> HubResult<bool> {
///     clients.group(&room).send(RECEIVE, ("server", &text)).await?;
///     clients.caller().invoke(CONFIRM, (&text,)).await
/// }
/// # hubwire::Hub::with_state(()).method("Post", post).build();
/// ```
pub struct ClientMethod<A, R = ()> {
    name: &'static str,
    of: PhantomData<fn(A) -> R>,
}

impl<A, R> ClientMethod<A, R> {
    /// Names a method, as the clients spell it: some of them care about case.
    pub const fn new(name: &'static str) -> Self {
        Self { name, of: PhantomData }
    }

    /// Returns the name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<A, R> Clone for ClientMethod<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R> Copy for ClientMethod<A, R> {}

impl<A, R> fmt::Debug for ClientMethod<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientMethod").field(&self.name).finish()
    }
}

/// Arguments of a client method: a tuple, or a list for a number of them that is not known before.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no list of arguments",
    label = "arguments are a tuple",
    note = "write `(value,)` for a single argument and `()` for none"
)]
pub trait Arguments: Serialize {}

impl<T: Serialize> Arguments for Vec<T> {}
impl<T: Serialize> Arguments for &[T] {}
impl<A: Arguments> Arguments for &A {}

/// A value that may stand where a client method declares a `T`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fit `{T}`, which the client method declares",
    note = "what fits is the type itself, a reference to it, and for `String` any text that is borrowed"
)]
pub trait Fits<T: ?Sized>: Serialize {}

impl<T: Serialize> Fits<T> for T {}
impl<T: Serialize + ?Sized> Fits<T> for &T {}
impl Fits<String> for &str {}
impl Fits<String> for Cow<'_, str> {}
impl Fits<String> for Box<str> {}
impl Fits<String> for &Box<str> {}
impl Fits<Option<String>> for Option<&str> {}
impl Fits<Option<String>> for &str {}
impl Fits<Option<String>> for String {}
impl<T: Serialize> Fits<Vec<T>> for &[T] {}
impl<T: Serialize, const N: usize> Fits<Vec<T>> for [T; N] where [T; N]: Serialize {}

/// What `send` and `invoke` may be told to call with arguments `A`: a name with any arguments, or a [`ClientMethod`] with those it
/// declares.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called with `{A}`",
    label = "not with these arguments",
    note = "a name takes any arguments that are a tuple, a `ClientMethod` those that fit its own: `(value,)` is a tuple of one"
)]
pub trait Target<A> {
    /// Returns the name on the wire.
    fn name(&self) -> &str;
}

impl<A: Arguments> Target<A> for &str {
    fn name(&self) -> &str {
        self
    }
}

impl<A: Arguments> Target<A> for &String {
    fn name(&self) -> &str {
        self
    }
}

impl<A: Arguments> Target<A> for Arc<str> {
    fn name(&self) -> &str {
        self
    }
}

/// What may be asked for an answer of type `R`: a name for any, a [`ClientMethod`] for the one it declares.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer with `{R}`",
    note = "the second parameter of a `ClientMethod` is the type of its answer"
)]
pub trait Answers<R> {}

impl<R> Answers<R> for &str {}
impl<R> Answers<R> for &String {}
impl<R> Answers<R> for Arc<str> {}
impl<A, R> Answers<R> for ClientMethod<A, R> {}

macro_rules! targets {
    ($($t:ident $x:ident),*) => {
        impl<$($x: Serialize,)*> Arguments for ($($x,)*) {}

        impl<R, $($x: Fits<$t>, $t,)*> Target<($($x,)*)> for ClientMethod<($($t,)*), R> {
            fn name(&self) -> &str {
                self.name
            }
        }
    };
}
arities!(targets);
