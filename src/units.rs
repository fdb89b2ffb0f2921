//! How durations and sizes are written in a configuration: `"30s"`, `"64KiB"`.

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};
use std::fmt;
use std::time::Duration;

/// A duration that is longer than nothing.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer
            .deserialize_any(Written(parse_duration, "a duration such as \"500ms\", \"30s\", \"5m\" or \"1h\""))
            .and_then(|duration: Duration| match duration.is_zero() {
                true => Err(D::Error::invalid_value(Unexpected::Str("0"), &"a duration that is longer than nothing")),
                false => Ok(duration),
            })
    }
}

/// A duration, which may be nothing.
pub(crate) mod duration_or_zero {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Written(parse_duration, "a duration such as \"0s\", \"30s\", \"5m\" or \"1h\""))
    }
}

/// A duration that need not be given.
pub(crate) mod duration_or_none {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

/// A number of bytes.
pub(crate) mod size {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(Written(parse_size, "a size such as 512, \"64KiB\" or \"1MiB\""))
    }
}

/// A number of bytes, or the word `none`.
pub(crate) mod size_or_none {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
        let parse = |text: &str| if text == "none" { Some(None) } else { parse_size(text).map(Some) };
        deserializer.deserialize_any(Written(parse, "a size such as 512, \"64KiB\" or \"1MiB\", or \"none\""))
    }
}

/// A text with a unit; a bare number is taken as a text of its digits.
struct Written<F>(F, &'static str);

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Written<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.0(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.0(&number.to_string()).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.0(&number.to_string()).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }
}

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= LONGEST).then_some(duration)
}

pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(bytes)?).ok()
}

/// Writes a size as briefly as it can be read at a glance.
pub(crate) fn show_size(bytes: u128) -> String {
    let units = [("GiB", 1_u128 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Far beyond any use, and still far from where adding to a clock would overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("500 ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("2h"), Some(Duration::from_secs(7200)));
        for wrong in ["30", "", "s", "-1s", "1.5s", "3 weeks", "99999999999999999999s", "999999d"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("100 kB"), Some(100_000));
        assert_eq!(parse_size("0"), Some(0));
        for wrong in ["", "KiB", "1.5MiB", "64K", "-1", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_in_one_figure() {
        assert_eq!([show_size(12), show_size(65_536), show_size(3 << 29)], ["12 B", "64.0 KiB", "1.5 GiB"]);
    }
}
