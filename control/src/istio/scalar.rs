//! Single values that have a form of their own: ports, durations, regular expressions, protocols.
//!
//! Invariant: a value of these types is valid; reading a bad one is an error at its line.

use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr, time::Duration as StdDuration};

use ipnet::IpNet;
use mesh::matcher::Regex;
use serde::{Deserialize, Deserializer, de};

use super::decode::advised;

/// A TCP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(NonZeroU16);

/// A span of time of at least one millisecond and whole milliseconds, written as Go writes it (`1h30m`, `1.5s`, `30ms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(StdDuration);

/// A regular expression, at most 1024 characters as Istio demands, known to compile. It must match the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexText(Regex);

/// From 0 to 100 per cent, in steps of a ten-thousandth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(u32);

/// An IP address or CIDR block. A bare address is the block of that address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpBlock(IpNet);

/// What is spoken on a port, from its `protocol` (Gateway, ServiceEntry) or from its name (Service).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP/2 in clear text.
    Http2,
    /// gRPC, that is HTTP/2 in clear text.
    Grpc,
    /// HTTP over TLS. At a Gateway it may be terminated; elsewhere it is opaque TLS.
    Https,
    /// TLS, opaque apart from its server name.
    Tls,
    /// Bytes.
    Tcp,
}

const MAX_REGEX_CHARS: usize = 1024;

impl Port {
    /// Accepts 1 to 65535.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl Duration {
    /// The span.
    pub fn get(self) -> StdDuration {
        self.0
    }
}

impl Percentage {
    /// Of a million.
    pub fn per_million(self) -> u32 {
        self.0
    }
}

impl RegexText {
    /// The expression.
    pub fn regex(&self) -> &Regex {
        &self.0
    }
}

impl IpBlock {
    /// The block.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl Protocol {
    /// Whether requests can be routed by what HTTP says.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// Whether connections start with a `ClientHello` that we do not terminate, so that its server name can route them.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// The protocol that the name of a Service port declares (`http-admin` is HTTP), as Istio reads it. `None`: undeclared.
    pub fn from_port_name(name: &str) -> Option<Self> {
        let declared = name.split_once('-').map_or(name, |(prefix, _)| prefix);
        Some(match declared.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            _ => return None,
        })
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = go_duration(text)
            .ok_or_else(|| format!("{text:?} is not a duration: a number and h, m, s or ms, such as 1h30m or 250ms"))?;
        if span < StdDuration::from_millis(1) {
            return Err(format!("{text:?} is too short: at least 1ms"));
        }
        if span.subsec_nanos() % 1_000_000 != 0 {
            return Err(format!("{text:?} is too fine: whole milliseconds only"));
        }
        Ok(Self(span))
    }
}

/// Sums `<decimal><unit>` terms. `None` if malformed or out of range.
fn go_duration(text: &str) -> Option<StdDuration> {
    let (mut rest, mut total) = (text, StdDuration::ZERO);
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len()),
        );
        let amount: f64 = number.parse().ok()?;
        total = total.checked_add(StdDuration::try_from_secs_f64(amount * unit_seconds(unit)?).ok()?)?;
        rest = tail;
    }
    Some(total)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

impl FromStr for RegexText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().count() > MAX_REGEX_CHARS {
            return Err(format!(
                "regular expression is longer than {MAX_REGEX_CHARS} characters"
            ));
        }
        Regex::parse(text).map(Self).map_err(|error| error.to_string())
    }
}

impl FromStr for IpBlock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let block = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        block
            .map(Self)
            .map_err(|_| format!("{text:?} is neither an IP address nor a CIDR block such as 10.0.0.0/8"))
    }
}

/// Reads a type from text through its `FromStr`, so that an error carries the line of the text and the advice given here.
macro_rules! deserialize_from_str {
    ($($name:ty => $advice:literal),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|error: String| serde::de::Error::custom(crate::istio::decode::advised(&error, $advice)))
            }
        }
    )+};
}
pub(super) use deserialize_from_str;

deserialize_from_str! {
    Duration => "use a duration such as 5s",
    RegexText => "correct the expression; it is RE2 and has to match the whole text",
    IpBlock => "correct the address, or the number of bits behind the slash",
}

impl<'de> Deserialize<'de> for Percentage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        let per_million = format!("{:.0}", percent * 10_000.0);
        let share = per_million.parse().ok().filter(|share| *share <= 1_000_000).map(Self);
        share.ok_or_else(|| de::Error::custom(advised(&format!("{percent} is no percentage"), "use 0 to 100")))
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let port = u16::try_from(number).ok().and_then(Self::new);
        port.ok_or_else(|| de::Error::custom(advised(&format!("{number} is not a port"), "use 1 to 65535")))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("1s", 1000),
            ("1.5s", 1500),
            ("1h2m", 3_720_000),
            ("250ms", 250),
            ("1000us", 1),
        ] {
            assert_eq!(
                text.parse::<Duration>().unwrap().get(),
                StdDuration::from_millis(millis),
                "{text}"
            );
        }
        for text in [
            "",
            "1",
            "s",
            "-1s",
            "1d",
            "1s1",
            "0s",
            "1us",
            "1.0001s",
            "1e3s",
            "99999999999999999999h",
            "1..5s",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn service_port_names_declare_a_protocol() {
        for (name, protocol) in [
            ("http", Some(Protocol::Http)),
            ("http2", Some(Protocol::Http2)),
            ("https-web", Some(Protocol::Https)),
            ("GRPC-x", Some(Protocol::Grpc)),
            ("web", None),
            ("httpx", None),
            ("", None),
        ] {
            assert_eq!(Protocol::from_port_name(name), protocol, "{name}");
        }
    }

    #[test]
    fn a_regular_expression_must_compile_and_be_short() {
        assert!("/status/[0-9]+".parse::<RegexText>().is_ok());
        assert!("a".repeat(MAX_REGEX_CHARS).parse::<RegexText>().is_ok());
        let error = "(".parse::<RegexText>().unwrap_err();
        assert_eq!(error, r#""(" is not a valid regular expression: unclosed group"#);
        assert!("a".repeat(MAX_REGEX_CHARS + 1).parse::<RegexText>().is_err());
        assert!("(a{1000}){1000}".parse::<RegexText>().is_err());
    }
}
