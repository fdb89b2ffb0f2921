//! The program `hubwire` as people run it: its verbs, its configuration, its signals, its service manager.

mod configuration;
mod deployment;
mod draining;
mod operation;
mod own_server;
mod program;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod verbs;
