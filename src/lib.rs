//! A real-time hub server that existing SignalR clients connect to unchanged.
//!
//! A hub is a set of async functions that clients call by name, and that call methods of clients in turn. It is mounted in an axum router:
//!
//! ```no_run
//! use axum::Router;
//! use hubwire::{Caller, ClientMethod, Clients, Groups, Hub, HubResult};
//!
//! const RECEIVE: ClientMethod<(String, String)> = ClientMethod::new("ReceiveMessage");
//!
//! async fn join(caller: Caller, groups: Groups, room: String) -> HubResult {
//!     groups.add(caller.id(), room).await
//! }
//!
//! async fn post(caller: Caller, clients: Clients, room: String, text: String) -> HubResult {
//!     clients.group(room).send(RECEIVE, (caller.id(), text)).await
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> std::io::Result<()> {
//!     let chat = Hub::with_state(()).method("Join", join).method("Post", post).build();
//!     let router = Router::new().merge(chat.routes("/hubs/chat"));
//!     hubwire::serve(tokio::net::TcpListener::bind("127.0.0.1:5000").await?, router).await
//! }
//! ```
//!
//! # Functions and their parameters
//!
//! A hub function is any async function of up to eight parameters that returns a [`HubResult`]. Each parameter is one of
//!
//! * an *argument*: anything that implements `serde::Deserialize`. The client's arguments are taken in order. [`Value`] is any argument at
//!   all, passed on as it came; [`Binary`] is bytes. A call with other arguments fails before the function runs.
//! * an *extractor*, made of the connection: [`Caller`], [`Clients`], [`Groups`], [`Cancellation`], [`Items`], [`Identity`], axum's `State` with
//!   a part of the hub's state, an `Option` of any of these, or a type of your own that implements [`FromConnection`].
//! * an [`UploadStream`]: items that the client streams into the call.
//!
//! [`HubBuilder::method`] adds a function that answers once, [`HubBuilder::stream`] one that answers with a stream of items.
//! [`HubBuilder::on_connected`] and [`HubBuilder::on_disconnected`] take functions of extractors only; [`HubBuilder::filter`] runs around every call.
//! Functions are unit-tested by calling them: every extractor has a `for_test`, see [`Connection::for_test`].
//!
//! # Errors
//!
//! `?` turns any error into a [`HubError`], which stays on the server: the client learns only that something went wrong. The words of
//! [`HubError::client`] reach it. A function that panics fails its own call and nothing else.
//!
//! # Sending
//!
//! Inside a call [`Clients`] selects receivers: a connection, a group, a user, everybody, others. Outside there is [`HubContext`], which
//! also asks who is there and ends connections. [`Groups::watch`] tells who is in a group, as it changes. A message is encoded once for each encoding in use, and nothing waits for a receiver: what
//! happens to one that does not keep up is a matter of [`SlowReceiver`]. [`Client::invoke`] calls a client method and gives its result.
//!
//! # Who may do what
//!
//! A layer of the router says who a request comes from, by an [`Identity`] in its extensions: `JwtBearer` of the feature `auth` for bearer
//! tokens, or one of your own for cookies or anything else. [`HubBuilder::authorize`] says who may use a hub, [`HubBuilder::authorize_method`]
//! who may call a method, [`Permissions`] who may do what with which group. [`Cors`] lets pages of other origins in,
//! [`TransportOptions::allowed_origins`] keeps them from opening WebSockets. A credential that expires ends its connection if
//! [`ConnectionOptions::close_on_authentication_expiration`] says so, and can be renewed before: [`AuthenticationRefresh`].
//!
//! # Order
//!
//! Calls of one connection run one at a time, in order, unless [`HubOptions::max_parallel_invocations`] says more; streaming calls run beside
//! them. What one task sends arrives in that order at every receiver.
//!
//! # Limits
//!
//! Whatever a client can make the server hold has a limit: see [`HubOptions`], [`ConnectionOptions`], [`TransportOptions`] and, for what comes
//! before a hub, [`ServeOptions`]. [`serve`] has limits that `axum::serve` does not have; under any other server they are that server's to give.
//!
//! # Behind a proxy
//!
//! [`guide::proxies`] has a tested configuration of nginx, HAProxy and Caddy each.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `auth` | `JwtBearer`: who a request comes from, by a signed token |
//! | `jwks-url` | its keys from a URL |
//! | `service` | what takes the place of Azure SignalR Service, and its REST API; used by the program `hubwire` |
//! | `server` | the program `hubwire`, and the module `relay`: its hub that needs no code |
//! | `testing` | the module `testing`: what only tests have a use for |

#[cfg(feature = "server")]
mod admin;
#[cfg(feature = "auth")]
mod auth;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "some of it serves REST and the service only"))]
mod backplane;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "server")]
mod config;
mod connection;
pub mod guide;
mod hub;
#[cfg_attr(not(feature = "service"), allow(dead_code, reason = "some of it serves REST and the service only"))]
mod lifetime;
mod observe;
mod protocol;
#[cfg(feature = "server")]
pub mod relay;
#[cfg(feature = "service")]
mod rest;
#[cfg(feature = "service")]
mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod units;

#[cfg(feature = "auth")]
pub use auth::{BearerError, BearerService, JwtBearer, JwtBearerBuilder};
pub use backplane::Member;
pub use connection::{CloseReason, ConnectionOptions, SlowReceiver};
pub use hub::{
    Answers, Argument, Arguments, Bind, Call, Callable, Caller, Cancellation, Cancelled, Client, ClientCall,
    ClientMethod, Clients, Connection, Extracted, Filter, Fits, FromConnection, FromInvocation, Groups, Hub,
    HubBuilder, HubContext, HubError, HubOptions, HubResult, Inbox, Invocation, Items, Next, Outcome, Pending,
    Permissions, Presence, Receivers, Target, UploadStream, Uploaded,
};
pub use lifetime::PresenceChange;
pub use observe::HubStats;
pub use protocol::{Binary, Protocol, Value, ValueError};
#[cfg(feature = "service")]
#[doc(hidden)]
pub use service::{ClientOptions, Service, ServiceMode, ServiceOptions};
pub use transport::{
    AuthenticationRefresh, Cors, CorsFuture, CorsService, Identity, Origins, Policy, RefreshRequest, Serve,
    ServeOptions, Transport, TransportOptions, serve,
};
