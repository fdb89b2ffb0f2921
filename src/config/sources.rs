//! Where a configuration comes from, and where in it a value stands.

use super::error::{ConfigError, Place};
use super::raw::{Admin, OnlyAdmin, Raw};
use figment::error::{Actual, Error, Kind};
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use toml_edit::{ImDocument, Item};

/// Everything that a configuration is made of; what stands later in this list wins: preset, file, settings in their order.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) preset: bool,
    pub(crate) file: Option<File>,
    pub(crate) settings: Vec<Setting>,
    /// Folders whose files are somebody else's to protect, whatever their modes say.
    pub(crate) guarded: Vec<PathBuf>,
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
        for (depth, step) in path.iter().enumerate() {
            let is_hub = depth == 1 && path[0] == HUBS;
            let mut written = item.as_table_like().into_iter().flat_map(|table| table.iter()).map(|(key, _)| key);
            let step = written.find(|key| is_hub && key.eq_ignore_ascii_case(step)).unwrap_or(step);
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
        Item::Value(toml_edit::Value::Array(list)) => Some((list.get(index)?.span().map(|span| span.start), None)),
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
        let value = match self.text.trim().parse::<toml_edit::Value>() {
            Ok(_) if !as_text => self.text.trim().to_owned(),
            _ => quoted(&self.text),
        };
        format!("{} = {value}\n", keys.join("."))
    }
}

/// What a text in TOML says. Names of hubs are in lower case, as they are compared, so that a variable can name every one.
fn layer(text: &str) -> Result<Dict, Box<Error>> {
    let mut layer = Toml::string(text).data()?.remove(&Profile::Default).unwrap_or_default();
    if let Some(Value::Dict(_, hubs)) = layer.get_mut(HUBS) {
        *hubs = std::mem::take(hubs).into_iter().map(|(name, hub)| (name.to_ascii_lowercase(), hub)).collect();
    }
    Ok(layer)
}

/// A secret that is written out goes over a file that a lower layer names, and the other way round.
fn replace_siblings(lower: &mut Dict, higher: &Dict) {
    for (key, value) in higher {
        let sibling = match key.strip_suffix(FILE) {
            Some(inline) => inline.to_owned(),
            None => format!("{key}{FILE}"),
        };
        let is_secret = SECRETS.contains(&key.trim_end_matches(FILE));
        if is_secret && !matches!(lower.get(&sibling), Some(Value::Dict(..))) {
            lower.remove(&sibling);
        }
        if let (Value::Dict(_, higher), Some(Value::Dict(_, lower))) = (value, lower.get_mut(key)) {
            replace_siblings(lower, higher);
        }
    }
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

impl Sources {
    /// Reads all of it into one.
    pub(super) fn merge(&self) -> Result<Raw, ConfigError> {
        self.extract()
    }

    /// Reads where health is served, whatever is wrong with the rest.
    pub(super) fn admin(&self) -> Result<Admin, ConfigError> {
        self.extract::<OnlyAdmin>().map(|read| read.admin)
    }

    fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.check_file()?;
        // what looks like a number may be meant as a text: a key of digits
        let mut as_text = vec![false; self.settings.len()];
        loop {
            let error = match self.figment(&as_text).and_then(|figment| figment.extract().map_err(Box::new)) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let expects_text = matches!(&error.kind, Kind::InvalidType(_, wanted) if wanted.contains("string") || wanted.contains("text"));
            match self.setting(&error.path) {
                Some(at) if expects_text && !as_text[at] => as_text[at] = true,
                _ => return Err(self.explain(&error)),
            }
        }
    }

    fn check_file(&self) -> Result<(), ConfigError> {
        let Some(file) = &self.file else { return Ok(()) };
        let document = ImDocument::parse(&*file.text).map_err(|e| {
            let place = file.place(e.span().map(|span| span.start));
            ConfigError::new(format!("is no TOML: {}", e.message().replace('\n', ", "))).at(place)
        })?;
        let hubs = document.get(HUBS).and_then(Item::as_table_like);
        let mut known: Vec<&str> = Vec::new();
        for (name, _) in hubs.into_iter().flat_map(|hubs| hubs.iter()) {
            if let Some(other) = known.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                let what = format!("[hubs.{name}] and [hubs.{other}] have the same name: case does not count");
                let place = hubs.and_then(|hubs| hubs.get_key_value(name)).and_then(|(key, _)| key.span());
                return Err(ConfigError::new(what).at(file.place(place.map(|span| span.start))));
            }
            known.push(name);
        }
        Ok(())
    }

    fn figment(&self, as_text: &[bool]) -> Result<Figment, Box<Error>> {
        let preset = self.preset.then_some(PRESET);
        let lower = preset.into_iter().chain(self.file.as_ref().map(|file| &*file.text));
        let mut lower = lower.map(layer).collect::<Result<Vec<Dict>, Box<Error>>>()?;
        let settings = self.settings.iter().zip(as_text).map(|(setting, as_text)| layer(&setting.toml(*as_text)));
        let settings = settings.collect::<Result<Vec<Dict>, Box<Error>>>()?;
        for lower in &mut lower {
            settings.iter().for_each(|setting| replace_siblings(lower, setting));
        }
        Ok(lower
            .into_iter()
            .chain(settings)
            .fold(Figment::new(), |figment, layer| figment.merge(Serialized::defaults(layer))))
    }

    /// Whether a setting goes over the preset or the file here.
    pub(super) fn sets(&self, section: &str) -> bool {
        self.settings.iter().any(|setting| setting.is_below(section))
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
        let section = |path: &[String]| match path.split_last() {
            Some((_, [])) | None => "at the top".into(),
            Some((_, section)) => format!("in [{}]", section.join(".")),
        };
        let what = match &error.kind {
            Kind::UnknownField(name, known) => ConfigError::unknown_key(name, &section(path), known),
            Kind::UnknownVariant(name, known) => {
                format!("`{}` cannot be `{name}`: allowed are {}", path.join("."), super::error::listed(known))
            }
            Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => explain_value(path, found, wanted),
            Kind::MissingField(name) => format!("`{}` needs `{name}`", path.join(".")),
            other => format!("`{}`: {other}", path.join(".")),
        };
        let place = self.place(path).or_else(|| self.nearest_place(path));
        ConfigError::new(what).at_some(place)
    }
}

/// Says what a value has to be, in words of the file; and what it is, where it cannot be a secret: not where a section is wanted, which may
/// be one that has secrets.
fn explain_value(path: &[String], found: &Actual, wanted: &str) -> String {
    let name = path.join(".");
    let may_hold_secret = path.iter().any(|key| SECRETS.contains(&&**key) || SECRET_SECTIONS.contains(&&**key));
    match wanted {
        _ if path.iter().any(|key| key == "permissions")
            && (wanted == "a sequence" || wanted == "struct Permission") =>
        {
            format!("`{name}` has to be a list of entries such as {{ who = \"authenticated\", may = \"join\" }}")
        }
        "a map" => format!("`{name}` has to be a section: write [{name}] and its keys below"),
        _ if wanted.starts_with("struct ") => {
            format!("`{name}` has to be a section: write [{name}] and its keys below")
        }
        "a sequence" => format!("`{name}` has to be a list such as [\"...\"]"),
        _ if may_hold_secret => format!("`{name}` has to be {wanted}"),
        _ => format!("`{name}` is {found}, and has to be {wanted}"),
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
/// What the key of a file's path ends in, behind that of the secret in it.
const FILE: &str = "_file";
/// Sections that such keys stand in.
const SECRET_SECTIONS: [&str; 2] = ["keys", "issuer"];
const HUBS: &str = "hubs";
/// What runs when nothing is configured.
const PRESET: &str = include_str!("preset.toml");
