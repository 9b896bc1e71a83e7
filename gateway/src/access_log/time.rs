//! Times as Envoy prints them: RFC 3339 with milliseconds, or a strftime format with Envoy's fraction operators.

use std::{cell::Cell, time::SystemTime};

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};

/// How a time is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeFormat {
    /// `2026-11-23T23:36:11.675Z`.
    Default,
    /// A strftime format, in UTC.
    Custom(String),
}

impl TimeFormat {
    /// Takes the parameter of `%START_TIME(...)%`. Fails if jiff cannot print it.
    pub(super) fn parse(parameter: &str) -> Result<Self, String> {
        if parameter.is_empty() {
            return Ok(Self::Default);
        }
        match write_custom(parameter, SystemTime::UNIX_EPOCH, &mut Vec::new()) {
            Some(()) => Ok(Self::Custom(parameter.to_owned())),
            None => Err(format!("{parameter:?} is not a strftime format")),
        }
    }

    /// Prints a time; nothing if it is outside the calendar.
    pub(super) fn write(&self, at: SystemTime, out: &mut Vec<u8>) {
        let start = out.len();
        let written = match self {
            Self::Default => write_default(at, out),
            Self::Custom(format) => write_custom(format, at, out),
        };
        if written.is_none() {
            out.truncate(start);
        }
    }
}

/// A time down to its second, with the point after it: `2026-11-23T23:36:11.`.
type Second = [u8; 20];

thread_local! {
    /// The second that was printed last, by its number. Most lines of a busy gateway are of the same.
    static SECOND: Cell<(u64, Second)> = const { Cell::new((0, *b"1970-01-01T00:00:00.")) };
}

fn write_default(at: SystemTime, out: &mut Vec<u8>) -> Option<()> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (mut second, mut text) = SECOND.get();
    if second != since.as_secs() {
        (second, text) = (since.as_secs(), print_second(at)?);
        SECOND.set((second, text));
    }
    out.extend_from_slice(&text);
    let millis = since.subsec_millis();
    for digit in [millis / 100, millis / 10 % 10, millis % 10] {
        out.push(b'0' + u8::try_from(digit).unwrap_or_default());
    }
    out.push(b'Z');
    Some(())
}

fn print_second(at: SystemTime) -> Option<Second> {
    let at = zoned(at)?;
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), date.month(), date.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.");
    text.as_bytes().try_into().ok()
}

fn write_custom(format: &str, at: SystemTime, out: &mut Vec<u8>) -> Option<()> {
    let mut text = String::new();
    jiff::fmt::strtime::BrokenDownTime::from(&zoned(at)?)
        .format(with_fraction(format), &mut jiff::fmt::StdFmtWrite(&mut text))
        .ok()?;
    out.extend_from_slice(text.as_bytes());
    Some(())
}

fn zoned(at: SystemTime) -> Option<ZonedDateTime> {
    Some(Timestamp::try_from(at).ok()?.to_zoned_datetime(TimeZone::UTC))
}

/// Envoy's `%f` is nine digits, `%1f` to `%9f` so many. jiff trims plain `%f`, so it is given a width.
fn with_fraction(format: &str) -> String {
    let mut out = String::with_capacity(format.len() + 2);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '%' {
            match chars.next() {
                Some('f') => out.push_str("9f"),
                Some(other) => out.push(other),
                None => {}
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn prints_what_envoy_prints() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_600_105_028, 45_678_900);
        let check = |format: &str, expect: &str| {
            let mut text = Vec::new();
            TimeFormat::parse(format).unwrap().write(at, &mut text);
            assert_eq!(str::from_utf8(&text).unwrap(), expect, "{format}");
        };
        check("", "2020-09-14T17:37:08.045Z");
        check("%s.%3f", "1600105028.045");
        check("%f", "045678900");
        check("%Y/%m/%dT%H:%M:%S%z", "2020/09/14T17:37:08+0000");
        check("%%f", "%f");
        assert!(TimeFormat::parse("%!").is_err());
    }

    #[test]
    fn each_second_is_printed_as_itself() {
        for (millis, expect) in [
            (999, "1970-01-01T00:00:00.999Z"),
            (1_001, "1970-01-01T00:00:01.001Z"),
            (1_600_105_028_045, "2020-09-14T17:37:08.045Z"),
            (1_600_105_028_990, "2020-09-14T17:37:08.990Z"),
            (1_600_105_029_000, "2020-09-14T17:37:09.000Z"),
            (0, "1970-01-01T00:00:00.000Z"),
        ] {
            let mut text = Vec::new();
            TimeFormat::Default.write(SystemTime::UNIX_EPOCH + Duration::from_millis(millis), &mut text);
            assert_eq!(str::from_utf8(&text).unwrap(), expect);
        }
    }
}
