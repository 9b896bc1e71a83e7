//! Operators that cut a request up: parts of its path, and the name it is for.

use std::borrow::Cow;

use super::{Plan, operator::Value};

/// What `%PATH%`, `%QUERY_PARAM%` and `%QUERY_PARAMS%` print.
#[derive(Debug)]
pub(super) struct PathPart {
    /// Where the path is kept; the first that the request has.
    places: Vec<usize>,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Whole,
    WithoutQuery,
    /// The query as it came, or with what is visible once decoded.
    Query {
        decoded: bool,
    },
    /// The first value of a parameter, decoded.
    Parameter(String),
}

/// What `%REQUESTED_SERVER_NAME%` prints.
#[derive(Debug)]
pub(super) struct ServerName {
    first: NameSource,
    /// The other source, if the first has nothing.
    falls_back: bool,
    /// Where the authority is kept; the first that the request has.
    places: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameSource {
    Sni,
    Host,
}

const ORIGINAL_PATH: &str = "x-envoy-original-path";
const ORIGINAL_HOST: &str = "x-envoy-original-host";

impl PathPart {
    /// Takes an operator's name and parameter.
    pub(super) fn parse(name: &str, parameter: &str, plan: &mut Plan) -> Result<Self, String> {
        let (part, source) = match name {
            "PATH" => {
                let (query, source) = parameter.split_once(':').unwrap_or((parameter, "PATH"));
                let part = match query {
                    "" | "WQ" => Part::Whole,
                    "NQ" => Part::WithoutQuery,
                    _ => return Err("takes WQ or NQ, and then ORIG, PATH or ORIG_OR_PATH".to_owned()),
                };
                (part, source)
            }
            "QUERY_PARAMS" => match parameter {
                "" | "ORIG" => (Part::Query { decoded: false }, "PATH"),
                "DECODED" => (Part::Query { decoded: true }, "PATH"),
                _ => return Err("takes ORIG or DECODED".to_owned()),
            },
            _ if parameter.is_empty() => return Err("needs the name of a parameter".to_owned()),
            _ => (Part::Parameter(parameter.to_owned()), "PATH"),
        };
        let names: &[&str] = match source {
            "PATH" => &[":path"],
            "ORIG" => &[ORIGINAL_PATH],
            "ORIG_OR_PATH" => &[ORIGINAL_PATH, ":path"],
            _ => return Err("takes the path from ORIG, PATH or ORIG_OR_PATH".to_owned()),
        };
        Ok(Self {
            places: places(names, plan)?,
            part,
        })
    }

    /// The part of the path that `kept` has at one of the places.
    pub(super) fn value<'a>(&self, kept: impl Fn(usize) -> Option<&'a str>) -> Value<'a> {
        let Some(path) = self.places.iter().find_map(|place| kept(*place)) else {
            return Value::Missing;
        };
        let (bare, query) = path
            .split_once('?')
            .map_or((path, None), |(bare, query)| (bare, Some(query)));
        match &self.part {
            Part::Whole => Value::Text(path.into()),
            Part::WithoutQuery => Value::Text(bare.into()),
            Part::Query { decoded } => query.map_or(Value::Missing, |query| {
                Value::Text(if *decoded {
                    decode(query, is_visible)
                } else {
                    query.into()
                })
            }),
            Part::Parameter(name) => parameter(query.unwrap_or_default(), name)
                .map_or(Value::Missing, |value| Value::Text(decode(value, |_| true))),
        }
    }
}

impl ServerName {
    /// Takes the operator's parameter.
    pub(super) fn parse(parameter: &str, plan: &mut Plan) -> Result<Self, String> {
        let (source, host) = parameter.split_once(':').unwrap_or((parameter, "ORIG_OR_HOST"));
        let (first, falls_back) = match source {
            "" | "SNI_ONLY" => (NameSource::Sni, false),
            "SNI_FIRST" => (NameSource::Sni, true),
            "HOST_FIRST" => (NameSource::Host, true),
            _ => return Err("takes SNI_ONLY, SNI_FIRST or HOST_FIRST".to_owned()),
        };
        let names: &[&str] = match host {
            "HOST" => &[":authority"],
            "ORIG" => &[ORIGINAL_HOST],
            "ORIG_OR_HOST" => &[ORIGINAL_HOST, ":authority"],
            _ => return Err("takes the host from ORIG, HOST or ORIG_OR_HOST".to_owned()),
        };
        Ok(Self {
            first,
            falls_back,
            places: if falls_back { places(names, plan)? } else { Vec::new() },
        })
    }

    /// The name, of a connection's server name and what `kept` has at one of the places.
    pub(super) fn value<'a>(&self, sni: Option<Cow<'a, str>>, kept: impl Fn(usize) -> Option<&'a str>) -> Value<'a> {
        let host = self.places.iter().find_map(|place| kept(*place)).map(Cow::from);
        let name = match (self.first, self.falls_back) {
            (NameSource::Sni, false) => sni,
            (NameSource::Sni, true) => sni.or(host),
            (NameSource::Host, _) => host.or(sni),
        };
        name.map_or(Value::Missing, Value::Text)
    }
}

fn places(names: &[&str], plan: &mut Plan) -> Result<Vec<usize>, String> {
    let place = |name: &&str| plan.request_field(name).ok_or_else(|| "cannot be kept".to_owned());
    names.iter().map(place).collect()
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// Decodes `%XX` of bytes that are wanted; what is no escape, and what would not be UTF-8, stays.
fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| escaped(after)).flatten();
        let (byte, after) = escaped.filter(|(byte, _)| wanted(*byte)).unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.split_at_checked(2)?;
    let digits = digits
        .iter()
        .all(u8::is_ascii_hexdigit)
        .then(|| std::str::from_utf8(digits).ok())??;
    Some((u8::from_str_radix(digits, 16).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_are_cut_as_envoy_cuts_them() {
        let check = |name: &str, parameter: &str, path: &str, expect: Option<&str>| {
            let part = PathPart::parse(name, parameter, &mut Plan::default()).unwrap();
            let mut printed = Vec::new();
            part.value(|_| Some(path)).write(&mut printed);
            let expect = expect.unwrap_or_default();
            assert_eq!(
                String::from_utf8(printed).unwrap(),
                expect,
                "{name}({parameter}) of {path}"
            );
        };
        let path = "/a?x=%61%20b&x=2&y&z=%26";
        check("PATH", "", path, Some(path));
        check("PATH", "NQ:ORIG", path, Some("/a"));
        check("QUERY_PARAMS", "", path, Some("x=%61%20b&x=2&y&z=%26"));
        check("QUERY_PARAMS", "DECODED", path, Some("x=a%20b&x=2&y&z=&"));
        check("QUERY_PARAM", "x", path, Some("a b"));
        check("QUERY_PARAM", "y", path, Some(""));
        check("QUERY_PARAM", "no", path, None);
        check("QUERY_PARAM", "x", "/?x=%zz%4", Some("%zz%4"));
        check("QUERY_PARAM", "x", "/?x=%ff", Some("%ff"));
    }

    #[test]
    fn a_wrong_parameter_is_refused() {
        for (name, parameter) in [
            ("PATH", "X"),
            ("PATH", "NQ:X"),
            ("QUERY_PARAM", ""),
            ("QUERY_PARAMS", "X"),
        ] {
            assert!(
                PathPart::parse(name, parameter, &mut Plan::default()).is_err(),
                "{name}({parameter})"
            );
        }
        for parameter in ["X", "SNI_FIRST:X"] {
            assert!(
                ServerName::parse(parameter, &mut Plan::default()).is_err(),
                "{parameter}"
            );
        }
    }
}
