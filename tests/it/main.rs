//! Hubs through their public API, in this process, over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod client;
mod client_results;
mod errors;
mod filters;
mod life_cycle;
mod log;
mod peer;
mod presence;
mod relay;
mod rest;
mod resumption;
mod serve;
mod service_client;
mod service_server;
mod service_vectors;
mod streams;
mod transport;
mod uploads;
