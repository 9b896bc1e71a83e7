//! Times as Envoy prints them: RFC 3339 with milliseconds, or a strftime format with Envoy's fraction operators.

use std::{fmt, time::SystemTime};

use jiff::{Timestamp, tz::TimeZone};

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
        let format = Self::Custom(parameter.to_owned());
        let mut probe = String::new();
        match format.write(SystemTime::UNIX_EPOCH, &mut probe) {
            Ok(()) => Ok(format),
            Err(_) => Err(format!("{parameter:?} is not a strftime format")),
        }
    }

    /// Prints a time.
    pub(super) fn write(&self, at: SystemTime, out: &mut impl fmt::Write) -> fmt::Result {
        let at = Timestamp::try_from(at)
            .map_err(|_| fmt::Error)?
            .to_zoned_datetime(TimeZone::UTC);
        match self {
            Self::Default => {
                let (date, time) = (at.date(), at.time());
                write!(
                    out,
                    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                    date.year(),
                    date.month(),
                    date.day(),
                    time.hour(),
                    time.minute(),
                    time.second(),
                    time.millisecond()
                )
            }
            Self::Custom(format) => {
                let mut text = String::new();
                jiff::fmt::strtime::BrokenDownTime::from(&at)
                    .format(with_fraction(format), &mut jiff::fmt::StdFmtWrite(&mut text))
                    .map_err(|_| fmt::Error)?;
                out.write_str(&text)
            }
        }
    }
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
    use super::*;

    #[test]
    fn prints_what_envoy_prints() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_600_105_028, 45_678_900);
        let check = |format: &str, expect: &str| {
            let mut text = String::new();
            TimeFormat::parse(format).unwrap().write(at, &mut text).unwrap();
            assert_eq!(text, expect, "{format}");
        };
        check("", "2020-09-14T17:37:08.045Z");
        check("%s.%3f", "1600105028.045");
        check("%f", "045678900");
        check("%Y/%m/%dT%H:%M:%S%z", "2020/09/14T17:37:08+0000");
        check("%%f", "%f");
        assert!(TimeFormat::parse("%!").is_err());
    }
}
