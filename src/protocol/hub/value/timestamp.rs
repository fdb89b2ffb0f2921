use std::fmt;

/// A MessagePack timestamp (extension type -1) as UTC; `Display` is ISO 8601, as JSON clients read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// Reads the data of the 32, 64 and 96 bit forms. `None` for any other, and for what four digits of a year cannot hold.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let this = match *data {
            [a, b, c, d] => Self { seconds: u32::from_be_bytes([a, b, c, d]).into(), nanoseconds: 0 },
            [_, _, _, _, _, _, _, _] => {
                let both = u64::from_be_bytes(data.try_into().ok()?);
                Self {
                    seconds: i64::try_from(both & 0x3_ffff_ffff).ok()?,
                    nanoseconds: u32::try_from(both >> 34).ok()?,
                }
            }
            [a, b, c, d, ref seconds @ ..] => Self {
                seconds: i64::from_be_bytes(seconds.try_into().ok()?),
                nanoseconds: u32::from_be_bytes([a, b, c, d]),
            },
            _ => return None,
        };
        let valid = this.nanoseconds < 1_000_000_000 && (YEAR_1..YEAR_10000).contains(&this.seconds);
        valid.then_some(this)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds.div_euclid(DAY), self.seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds > 0 {
            let (mut fraction, mut digits) = (self.nanoseconds, 9);
            while fraction % 10 == 0 {
                fraction /= 10;
                digits -= 1;
            }
            write!(f, ".{fraction:0digits$}")?;
        }
        f.write_str("Z")
    }
}

/// The Gregorian date of a day counted from 1970. Years are counted from March, so that leap days come last, in eras of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

const DAY: i64 = 86_400;
/// The bounds of what .NET and ISO 8601 without agreement can write.
const YEAR_1: i64 = -62_135_596_800;
const YEAR_10000: i64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_iso_8601() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_525_742_080, 500_000_000, "2018-05-08T01:14:40.5Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (-2_203_891_200, 0, "1900-03-01T00:00:00Z"),
            (YEAR_1, 0, "0001-01-01T00:00:00Z"),
            (YEAR_10000 - 1, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(Timestamp { seconds, nanoseconds }.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_has_no_text() {
        let of = |nanoseconds: u32, seconds: i64| {
            Timestamp::read(&[nanoseconds.to_be_bytes().as_slice(), &seconds.to_be_bytes()].concat())
        };
        assert!(of(0, YEAR_1).is_some());
        assert!(of(0, YEAR_1 - 1).is_none());
        assert!(of(0, YEAR_10000).is_none());
        assert!(of(1_000_000_000, 0).is_none());
        assert!(Timestamp::read(&[0; 5]).is_none());
        assert!(Timestamp::read(&[]).is_none());
        assert!(Timestamp::read(&[0xff; 8]).is_none(), "more than a second of nanoseconds");
    }
}
