//! Time as data: the one place where the clocks are read, and the text forms of a wall-clock time.
//!
//! Deadlines are monotonic (time since the process started); the wall clock is for stamps only, since boards without a
//! battery start in 1970 and jump when the network comes.

use crate::os::time;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment: what the core is told about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started; never jumps. All deadlines are of this kind.
    pub mono: Duration,
    /// The wall clock, for stamps.
    pub wall: Wall,
}

/// A wall-clock time in UTC. Displays as RFC 3339 with whole seconds and `Z` (decision 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Wall {
    /// Seconds since 1970-01-01T00:00:00Z, may be negative.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

/// Reads both clocks.
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// Time since the process first asked for it (`main` asks at once).
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn mono() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The wall clock.
pub fn wall() -> Wall {
    Wall::from(time::now())
}

/// When a file was last written to.
///
/// # Errors
/// The system's.
pub fn written(path: &Path) -> io::Result<Wall> {
    time::modified(path).map(Wall::from)
}

impl From<time::Time> for Wall {
    fn from((seconds, nanos): time::Time) -> Wall {
        Wall { seconds, nanos }
    }
}

impl Wall {
    /// A time of whole seconds since 1970.
    pub fn from_unix(seconds: i64) -> Wall {
        Wall { seconds, nanos: 0 }
    }

    /// Year, month, day, hour, minute, second in UTC.
    pub fn civil(self) -> (i64, u32, u32, u32, u32, u32) {
        let days = self.seconds.div_euclid(86_400);
        let rest = u32::try_from(self.seconds.rem_euclid(86_400)).unwrap_or(0);
        // Days to a date of the proleptic Gregorian calendar, eras of 400 years that begin in March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = u32::try_from(day_of_year - (153 * month_from_march + 2) / 5 + 1).unwrap_or(1);
        let month =
            u32::try_from(if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 }).unwrap_or(1);
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
    }

    /// Reads RFC 3339 with any offset and any fraction; `None` for anything else.
    pub fn parse(text: &str) -> Option<Wall> {
        let bytes = text.as_bytes();
        if bytes.len() < 20
            || !text.is_ascii()
            || bytes[4] != b'-'
            || bytes[7] != b'-'
            || bytes[13] != b':'
            || bytes[16] != b':'
        {
            return None;
        }
        if !matches!(bytes[10], b'T' | b't' | b' ') {
            return None;
        }
        let number = |from: usize, to: usize| {
            text.get(from..to).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok()
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut rest = &text[19..];
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            nanos = format!("{:0<9.9}", &fraction[..digits]).parse().ok()?;
            rest = &fraction[digits..];
        }
        let offset = match rest.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => {
                let minutes = i64::from(h1 - b'0') * 600
                    + i64::from(h2 - b'0') * 60
                    + i64::from(m1 - b'0') * 10
                    + i64::from(m2 - b'0');
                if *sign == b'-' { -minutes * 60 } else { minutes * 60 }
            }
            _ => return None,
        };
        let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
        let era = y.div_euclid(400);
        let year_of_era = y.rem_euclid(400);
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * m + 2) / 5 + day - 1;
        let days = era * 146_097 + day_of_era - 719_468;
        Some(Wall { seconds: days * 86_400 + hour * 3600 + minute * 60 + second - offset, nanos })
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_time_displays_as_rfc_3339_in_utc() {
        assert_eq!(Wall::from_unix(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Wall::from_unix(951_782_400).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Wall::from_unix(1_785_834_300).to_string(), "2026-08-04T09:05:00Z");
    }

    #[test]
    fn every_offset_and_fraction_is_read() {
        let utc = Wall::from_unix(1_785_834_300);
        for text in
            ["2026-08-04T09:05:00Z", "2026-08-04T11:05:00+02:00", "2026-08-04T03:35:00-05:30", "2026-08-04 09:05:00z"]
        {
            assert_eq!(Wall::parse(text), Some(utc), "{text}");
        }
        assert_eq!(Wall::parse("2026-08-04T09:05:00.123456789Z").map(|wall| wall.nanos), Some(123_456_789));
        assert_eq!(Wall::parse("2026-08-04T09:05:00.5Z").map(|wall| wall.nanos), Some(500_000_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-08-04",
            "2026-13-04T09:05:00Z",
            "2026-08-04T09:05:00",
            "2026-08-04T09:05:00.Z",
            "2026-08-04T09:05:00+2:00",
        ] {
            assert_eq!(Wall::parse(text), None, "{text}");
        }
    }

    #[test]
    fn display_and_parse_are_inverse_over_four_centuries() {
        for day in (-50_000_i64..200_000).step_by(37) {
            let wall = Wall::from_unix(day * 86_400 + day.rem_euclid(86_400));
            assert_eq!(Wall::parse(&wall.to_string()), Some(wall));
        }
    }
}
