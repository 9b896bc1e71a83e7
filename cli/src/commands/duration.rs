//! Times as a person types them: `90s`, `30m`, `24h`, `10d`.

use std::time::Duration;

/// Parses a whole number and a unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: a whole number and s, m, h or d, such as 24h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    let total = number
        .and_then(|number| number.checked_mul(seconds))
        .ok_or_else(wrong)?;
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("10d", 864_000), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "s",
            "1",
            "1w",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999d",
            "999999999999999999d",
            "1é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
