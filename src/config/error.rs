use std::fmt;
use std::path::PathBuf;

/// What is wrong with a configuration, where, and what to do.
#[derive(Debug)]
pub(crate) struct ConfigError {
    what: String,
    place: Option<Place>,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File { path: PathBuf, line: Option<usize> },
    Variable(String),
    Flag(&'static str),
}

impl ConfigError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: None }
    }

    pub(super) fn at(self, place: Place) -> Self {
        self.at_some(Some(place))
    }

    pub(super) fn at_some(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }

    /// Says which known key was probably meant.
    pub(super) fn unknown_key(name: &str, section: &str, known: &[&str]) -> String {
        match nearest(name, known) {
            Some(near) => format!("unknown key `{name}` {section}: did you mean `{near}`?"),
            None if known.is_empty() => format!("unknown key `{name}` {section}"),
            None => format!("unknown key `{name}` {section}: known are {}", listed(known)),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}, line {line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

pub(super) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The known name that takes the fewest edits, if that is few enough to be a slip.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (edits(name, known), *known))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, near)| near)
}

/// Letters to insert, delete, replace, or swap with their neighbour.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["listen", "public_url", "drain_timeout"];
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest("drain-timeout", &known), Some("drain_timeout"));
        assert_eq!(nearest("port", &known), None);
        assert_eq!(nearest("jion", &["send", "join"]), Some("join"));
        assert_eq!([edits("", "abc"), edits("kitten", "sitting"), edits("a", "a")], [3, 3, 0]);
    }
}
