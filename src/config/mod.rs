//! Configuration: as written, then checked, so that it can no longer be wrong.
