//! The data-plane REST API, on the lifetimes of hubs.
