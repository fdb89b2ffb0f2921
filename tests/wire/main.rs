//! Tests over raw sockets, against our server and against the reference: nothing between the test and the bytes.
//!
//! `HUBWIRE_TEST_URL=http://host:port` runs them on a server that runs already, `HUBWIRE_TEST_URL=reference` on the
//! reference in our place; `HUBWIRE_DOTNET` names the starter of the reference; `HUBWIRE_NO_SKIP=1` makes a skip a
//! failure; `HUBWIRE_SEED` repeats random choices; `HUBWIRE_SHOW=1` prints what the reference says to each script.

#[path = "../support/mod.rs"]
mod support;

mod accepted;
mod auth;
mod bad_input;
mod differential;
mod field_cases;
mod http_in_process;
mod http_sequences;
mod http_transports;
mod hub_behaviour;
mod scripts;
mod stateful;
mod stateful_soak;
