//! The page of the standalone server, and its API.
