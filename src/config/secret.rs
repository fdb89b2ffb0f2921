use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// A text that is nowhere shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads a file that holds nothing else; the line break that editors put at its end is not part of it.
    pub(super) fn read(path: &Path) -> Result<Self, Unreadable> {
        let text = fs::read_to_string(path).map_err(Unreadable::Io)?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() { Err(Unreadable::Empty) } else { Ok(Self(text.into())) }
    }
}

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is empty")]
    Empty,
}

/// Whether anybody on this machine may read a file.
#[cfg(unix)]
pub(super) fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
pub(super) fn is_world_readable(_: &Path) -> bool {
    false
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
