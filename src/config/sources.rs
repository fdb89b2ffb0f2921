//! Where a configuration comes from, and where in it a value stands.

use super::error::{ConfigError, Place};
use super::raw::Raw;
use figment::Figment;
use figment::error::{Error, Kind};
use figment::providers::{Format as _, Toml};
use std::path::{Path, PathBuf};
use toml_edit::{ImDocument, Item, Value};

/// Everything that a configuration is made of; what stands later in this list wins: preset, file, settings in their order.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) preset: bool,
    pub(crate) file: Option<File>,
    pub(crate) settings: Vec<Setting>,
}

/// A file that has been read.
pub(crate) struct File {
    path: PathBuf,
    text: String,
}

/// One value that comes from elsewhere than a file.
pub(crate) struct Setting {
    path: Vec<String>,
    /// As it was written: a TOML value, or else a text without quotes.
    text: String,
    origin: Place,
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let place = || Place::File { path: path.into(), line: None };
        let text =
            std::fs::read_to_string(path).map_err(|e| ConfigError::new(format!("cannot be read: {e}")).at(place()))?;
        Ok(Self { path: path.into(), text })
    }

    #[cfg(test)]
    pub(super) fn of(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    fn place(&self, offset: Option<usize>) -> Place {
        let line = offset.map(|at| self.text[..at.min(self.text.len())].matches('\n').count() + 1);
        Place::File { path: self.path.clone(), line }
    }

    /// The line of the longest part of a path that the file has; `None` if it has not even the first key.
    fn find(&self, path: &[String]) -> Option<Place> {
        let document = ImDocument::parse(&*self.text).ok()?;
        let mut item = document.as_item();
        let mut span = None;
        for step in path {
            let (at, next) = key(item, step)?;
            span = at.or(span);
            match next {
                Some(next) => item = next,
                // inside of an inline value, which has a span of its own
                None => break,
            }
        }
        Some(self.place(span))
    }
}

/// What a step of a path leads to, and where that stands.
fn key<'a>(item: &'a Item, step: &str) -> Option<(Option<usize>, Option<&'a Item>)> {
    if let Some(table) = item.as_table_like() {
        let (key, next) = table.get_key_value(step)?;
        let at = key.span().or(next.span()).map(|span| span.start);
        return Some((at, Some(next)));
    }
    let index: usize = step.parse().ok()?;
    match item {
        Item::ArrayOfTables(tables) => Some((tables.get(index)?.span().map(|span| span.start), None)),
        Item::Value(Value::Array(list)) => Some((list.get(index)?.span().map(|span| span.start), None)),
        _ => None,
    }
}

impl Setting {
    /// A variable, if its name is that of a setting: `HUBWIRE_SECTION__KEY`. Names without the double underscore are none: container
    /// platforms make such variables of a service's name.
    pub(crate) fn of_variable(name: &str, text: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX).filter(|rest| rest.contains(SEPARATOR))?;
        let path = rest.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
        Some(Self { path, text: text.into(), origin: Place::Variable(name.into()) })
    }

    pub(crate) fn of_flag(flag: &'static str, path: &str, text: String) -> Self {
        Self { path: path.split('.').map(Into::into).collect(), text, origin: Place::Flag(flag) }
    }

    pub(crate) fn is_below(&self, section: &str) -> bool {
        self.path.first().is_some_and(|first| first == section)
    }

    /// As a document of its own. A text that is no TOML value is taken as it stands.
    fn toml(&self, as_text: bool) -> String {
        let keys: Vec<String> = self.path.iter().map(|key| quoted(key)).collect();
        let value = match self.text.trim().parse::<Value>() {
            Ok(_) if !as_text => self.text.trim().to_owned(),
            _ => quoted(&self.text),
        };
        format!("{} = {value}\n", keys.join("."))
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

impl Sources {
    /// Reads all of it into one.
    pub(super) fn merge(&self) -> Result<Raw, ConfigError> {
        if let Some(file) = &self.file {
            ImDocument::parse(&*file.text).map_err(|e| {
                let place = file.place(e.span().map(|span| span.start));
                ConfigError::new(format!("is no TOML: {}", e.message().replace('\n', ", "))).at(place)
            })?;
        }
        // what looks like a number may be meant as a text: a key of digits
        let mut as_text = vec![false; self.settings.len()];
        loop {
            let error = match self.figment(&as_text).extract::<Raw>() {
                Ok(raw) => return Ok(raw),
                Err(error) => error,
            };
            let expects_text = matches!(&error.kind, Kind::InvalidType(_, wanted) if wanted.contains("string") || wanted.contains("text"));
            match self.setting(&error.path) {
                Some(at) if expects_text && !as_text[at] => as_text[at] = true,
                _ => return Err(self.explain(&error)),
            }
        }
    }

    fn figment(&self, as_text: &[bool]) -> Figment {
        let mut figment = Figment::new();
        if self.preset {
            figment = figment.merge(Toml::string(PRESET));
        }
        if let Some(file) = &self.file {
            figment = figment.merge(Toml::string(&file.text));
        }
        let figment = self
            .settings
            .iter()
            .zip(as_text)
            .fold(figment, |figment, (setting, as_text)| figment.merge(Toml::string(&setting.toml(*as_text))));
        if figment.contains("service") { figment.join(Toml::string(SERVICE)) } else { figment }
    }

    /// The last setting that says something about a path: above it, or below.
    fn setting(&self, path: &[String]) -> Option<usize> {
        let about = |setting: &Setting| path.iter().zip(&setting.path).all(|(a, b)| a == b);
        self.settings.iter().rposition(about)
    }

    /// Where a value stands that counts: the one that won.
    pub(super) fn place(&self, path: &[String]) -> Option<Place> {
        match self.setting(path) {
            Some(at) => Some(self.settings[at].origin.clone()),
            None => self.file.as_ref().and_then(|file| file.find(path)),
        }
    }

    /// The same for a problem about something that may be missing: then the file at least is named.
    pub(super) fn nearest_place(&self, path: &[String]) -> Option<Place> {
        let parts = (1..=path.len()).rev().map(|length| &path[..length]);
        parts.filter_map(|part| self.place(part)).next().or_else(|| self.file.as_ref().map(|file| file.place(None)))
    }

    fn explain(&self, error: &Error) -> ConfigError {
        let path = &error.path;
        let secret = path.last().is_some_and(|key| SECRETS.contains(&&**key));
        let section = |path: &[String]| match path.split_last() {
            Some((_, [])) | None => "at the top".into(),
            Some((_, section)) => format!("in [{}]", section.join(".")),
        };
        let what = match &error.kind {
            Kind::UnknownField(name, known) => ConfigError::unknown_key(name, &section(path), known),
            Kind::UnknownVariant(name, known) => {
                format!("`{}` cannot be `{name}`: allowed are {}", path.join("."), super::error::listed(known))
            }
            Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) if secret => {
                format!("`{}` has to be {wanted}", path.join("."))
            }
            Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
                format!("`{}` is {found}, and has to be {wanted}", path.join("."))
            }
            Kind::MissingField(name) => format!("`{}` needs `{name}`", path.join(".")),
            other => format!("`{}`: {other}", path.join(".")),
        };
        let place = self.place(path).or_else(|| self.nearest_place(path));
        ConfigError::new(what).at_some(place)
    }
}

/// Shows no value.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("File").field(&self.path).finish()
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Setting").field(&self.path).finish()
    }
}

const PREFIX: &str = "HUBWIRE_";
const SEPARATOR: &str = "__";
/// Keys whose values are not repeated in an error.
const SECRETS: [&str; 3] = ["primary", "secondary", "secret"];
/// What runs when nothing is configured.
/// Defaults of the service that are not those of a connection anywhere else.
const SERVICE: &str = "[service.clients.connection]\nmaximum_receive_message_size = \"1MiB\"\n";
const PRESET: &str = include_str!("preset.toml");
