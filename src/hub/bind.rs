use super::{Call, Connection, HubResult, UploadStream, callable::arities};
use serde::de::DeserializeOwned;

/// Something made from the surroundings of a call: who calls, state, claims. Takes no argument.
///
/// Implement it for your own types; each is then a parameter that every hub function can have, life-cycle handlers included. `S` is the
/// hub's state, of which `axum::extract::FromRef` gives parts.
///
/// ```
/// use hubwire::{Caller, Connection, FromConnection, HubError, HubResult};
///
/// /// The tenant that a caller belongs to, by a claim.
/// struct Tenant(String);
///
/// impl<S> FromConnection<S> for Tenant {
///     fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
///         let claim = connection.identity().claim("tenant").ok_or(HubError::client("no tenant"))?;
///         Ok(Self(claim.to_owned()))
///     }
/// }
///
/// async fn describe(Tenant(tenant): Tenant, caller: Caller) -> HubResult<String> {
///     Ok(format!("{} of {tenant}", caller.id()))
/// }
/// # hubwire::Hub::with_state(()).method("Describe", describe).build();
/// ```
///
/// A type that also implements `serde::Deserialize` could be meant as an argument just as well: as a parameter it does not compile.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from a connection alone",
    label = "cannot be a parameter here",
    note = "a life-cycle handler takes extractors only: it has no arguments and no upload streams",
    note = "an extractor implements `hubwire::FromConnection<{S}>`"
)]
pub trait FromConnection<S>: Sized {
    /// Makes the value, or fails the call.
    ///
    /// # Errors
    ///
    /// What the caller is to be told: its call fails as if the method had returned this.
    fn from_connection(connection: &Connection, state: &S) -> HubResult<Self>;
}

/// A parameter of a hub method; `K` is its kind and always inferred.
///
/// Arguments, extractors and upload streams implement it. Implement it yourself, with a kind of your own, for a parameter that takes
/// arguments and does something with them.
///
/// ```
/// use hubwire::{Call, FromInvocation, HubError, HubResult};
///
/// struct NotEmpty(String);
/// /// Its kind: any type of your own.
/// enum Checked {}
///
/// impl<S> FromInvocation<S, Checked> for NotEmpty {
///     const ARGUMENTS: usize = 1;
///
///     fn from_invocation(call: &mut Call<'_>, _: &S) -> HubResult<Self> {
///         let text: String = call.next_argument()?;
///         if text.is_empty() { Err(HubError::client("must not be empty")) } else { Ok(Self(text)) }
///     }
/// }
///
/// async fn rename(NotEmpty(name): NotEmpty) -> HubResult<usize> {
///     Ok(name.len())
/// }
/// # hubwire::Hub::with_state(()).method("Rename", rename).build();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither an argument nor an extractor",
    label = "cannot be a parameter of a hub method",
    note = "an argument implements `serde::Deserialize`; an extractor implements `hubwire::FromConnection<{S}>`"
)]
pub trait FromInvocation<S, K>: Sized {
    /// How many of the caller's arguments this parameter takes.
    const ARGUMENTS: usize = 0;
    /// How many of the caller's upload streams this parameter takes.
    const UPLOADS: usize = 0;

    /// Makes the value.
    ///
    /// # Errors
    ///
    /// What the caller is to be told: its call fails.
    fn from_invocation(call: &mut Call<'_>, state: &S) -> HubResult<Self>;
}

/// Kind of a parameter: made by [`FromConnection`].
#[derive(Debug)]
pub enum Extracted {}
/// Kind of a parameter: the next argument.
#[derive(Debug)]
pub enum Argument {}
/// Kind of a parameter: the next upload stream.
#[derive(Debug)]
pub enum Uploaded {}

impl<S, T: FromConnection<S>> FromInvocation<S, Extracted> for T {
    fn from_invocation(call: &mut Call<'_>, state: &S) -> HubResult<Self> {
        T::from_connection(call.connection(), state)
    }
}

impl<S, T: DeserializeOwned> FromInvocation<S, Argument> for T {
    const ARGUMENTS: usize = 1;

    fn from_invocation(call: &mut Call<'_>, _: &S) -> HubResult<Self> {
        call.next_argument()
    }
}

impl<S, T: DeserializeOwned> FromInvocation<S, Uploaded> for UploadStream<T> {
    const UPLOADS: usize = 1;

    fn from_invocation(call: &mut Call<'_>, _: &S) -> HubResult<Self> {
        call.next_upload()
    }
}

/// All parameters of a function, made from a `C`: a [`Call`] or a [`Connection`]. Implemented for tuples; not to be implemented.
pub trait Bind<S, C: ?Sized, K>: Sized {
    /// Arguments that the function takes.
    const ARGUMENTS: usize;
    /// Upload streams that the function takes.
    const UPLOADS: usize;

    /// Makes all of them, left to right.
    ///
    /// # Errors
    ///
    /// That of the first parameter that cannot be made.
    fn bind(from: &mut C, state: &S) -> HubResult<Self>;
}

macro_rules! bind {
    ($($t:ident $k:ident),*) => {
        #[allow(unused_variables)]
        impl<S, $($t, $k,)*> Bind<S, Call<'_>, ($($k,)*)> for ($($t,)*)
        where
            $($t: FromInvocation<S, $k>,)*
        {
            const ARGUMENTS: usize = 0 $(+ $t::ARGUMENTS)*;
            const UPLOADS: usize = 0 $(+ $t::UPLOADS)*;

            fn bind(from: &mut Call<'_>, state: &S) -> HubResult<Self> {
                Ok(($($t::from_invocation(from, state)?,)*))
            }
        }

        #[allow(unused_variables)]
        impl<S, $($t,)*> Bind<S, Connection, ()> for ($($t,)*)
        where
            $($t: FromConnection<S>,)*
        {
            const ARGUMENTS: usize = 0;
            const UPLOADS: usize = 0;

            fn bind(from: &mut Connection, state: &S) -> HubResult<Self> {
                Ok(($($t::from_connection(from, state)?,)*))
            }
        }
    };
}
arities!(bind);
