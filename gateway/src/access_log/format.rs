//! Envoy's access-log format language, compiled once: text with `%OPERATOR(parameter):length%`, or JSON of such texts.
//!
//! Source: Envoy's documentation of access-log format strings. Rendering is pure: record in, bytes out.

use std::borrow::Cow;

use mesh::log::LogFormat;
use serde_json::Value as Json;

use super::{
    AccessRecord, Plan,
    operator::{Operator, Value},
};

/// Why a format cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("%{operator}% at byte {at} {problem}; write %% for a percent sign")]
pub(crate) struct FormatError {
    at: usize,
    operator: String,
    problem: String,
}

/// A compiled format.
#[derive(Debug)]
pub(super) enum Format {
    Text(Template),
    Json { members: Node, omit_empty: bool },
}

/// Literals and operators in order.
#[derive(Debug)]
pub(super) struct Template(Vec<Segment>);

#[derive(Debug)]
enum Segment {
    Literal(String),
    Operator { operator: Operator, max_len: Option<usize> },
}

/// A JSON value some of whose strings are templates.
#[derive(Debug)]
pub(super) enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    /// Exactly one operator, whose type is kept.
    Typed(Single),
    Template(Template),
    Literal(Json),
}

/// The one operator of a typed JSON member.
#[derive(Debug)]
pub(super) struct Single {
    operator: Operator,
    max_len: Option<usize>,
}

/// Envoy's own default, used where a log names no format. Istio always names one.
const ENVOY_DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n",
);

impl Format {
    pub(super) fn compile(format: &LogFormat, plan: &mut Plan) -> Result<Self, FormatError> {
        match format {
            LogFormat::EnvoyDefault => Template::compile(ENVOY_DEFAULT, plan).map(Self::Text),
            LogFormat::Text(text) => Template::compile(text, plan).map(Self::Text),
            LogFormat::Json { fields, omit_empty } => {
                let members = Node::object(fields, plan)?;
                Ok(Self::Json {
                    members,
                    omit_empty: *omit_empty,
                })
            }
        }
    }

    pub(super) fn render(&self, record: &AccessRecord, out: &mut Vec<u8>) {
        match self {
            Self::Text(template) => template.render(record, b"-", out),
            Self::Json { members, omit_empty } => {
                members.render(record, *omit_empty, out);
                out.push(b'\n');
            }
        }
    }
}

impl Template {
    fn compile(text: &str, plan: &mut Plan) -> Result<Self, FormatError> {
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(percent) = rest.find('%') {
            literal.push_str(&rest[..percent]);
            rest = &rest[percent + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let at = text.len() - rest.len() - 1;
            let (segment, after) =
                Segment::parse(rest, plan).map_err(|(operator, problem)| FormatError { at, operator, problem })?;
            if !literal.is_empty() {
                segments.push(Segment::Literal(std::mem::take(&mut literal)));
            }
            segments.push(segment);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal));
        }
        Ok(Self(segments))
    }

    /// `missing` stands for what has no value.
    fn render(&self, record: &AccessRecord, missing: &[u8], out: &mut Vec<u8>) {
        for segment in &self.0 {
            match segment {
                Segment::Literal(text) => append(text.as_bytes(), out),
                Segment::Operator { operator, max_len } => match operator.value(record) {
                    Value::Missing => append(missing, out),
                    value => write_truncated(&value, *max_len, out),
                },
            }
        }
    }

    /// The operator, if the template is nothing else.
    fn into_single(mut self) -> Result<Single, Self> {
        match (self.0.len(), self.0.pop()) {
            (1, Some(Segment::Operator { operator, max_len })) => Ok(Single { operator, max_len }),
            (_, last) => {
                self.0.extend(last);
                Err(self)
            }
        }
    }
}

impl Segment {
    /// Parses what follows a percent sign up to the closing one: `NAME`, `NAME(parameter)`, either with `:length`.
    fn parse<'a>(text: &'a str, plan: &mut Plan) -> Result<(Self, &'a str), (String, String)> {
        let name_len = text
            .bytes()
            .take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
            .count();
        let (name, rest) = text.split_at(name_len);
        let fail = |problem: &str| (name.to_owned(), problem.to_owned());
        if name.is_empty() {
            return Err(fail("is a percent sign that starts no operator"));
        }
        let (parameter, rest) = match rest.strip_prefix('(') {
            None => (None, rest),
            Some(rest) => {
                let end = rest
                    .find(')')
                    .ok_or_else(|| fail("has a parameter without a closing parenthesis"))?;
                (Some(&rest[..end]), &rest[end + 1..])
            }
        };
        let end = rest.find('%').ok_or_else(|| fail("has no closing percent sign"))?;
        let max_len = match rest[..end].strip_prefix(':') {
            None if end == 0 => None,
            Some(digits) => Some(digits.parse().map_err(|_| fail("has a length that is not a number"))?),
            None => return Err(fail("is followed by something else than its closing percent sign")),
        };
        let operator = Operator::parse(name, parameter, plan).map_err(|problem| fail(&problem))?;
        Ok((Self::Operator { operator, max_len }, &rest[end + 1..]))
    }
}

impl Node {
    fn object(members: &serde_json::Map<String, Json>, plan: &mut Plan) -> Result<Self, FormatError> {
        let mut nodes = Vec::with_capacity(members.len());
        for (key, value) in members {
            nodes.push((key.clone(), Self::compile(value, plan)?));
        }
        nodes.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self::Object(nodes))
    }

    fn compile(value: &Json, plan: &mut Plan) -> Result<Self, FormatError> {
        match value {
            Json::Object(members) => Self::object(members, plan),
            Json::Array(items) => items
                .iter()
                .map(|item| Self::compile(item, plan))
                .collect::<Result<_, _>>()
                .map(Self::Array),
            Json::String(text) => Ok(match Template::compile(text, plan)?.into_single() {
                Ok(single) => Self::Typed(single),
                Err(template) => Self::Template(template),
            }),
            Json::Null | Json::Bool(_) | Json::Number(_) => Ok(Self::Literal(value.clone())),
        }
    }

    fn render(&self, record: &AccessRecord, omit_empty: bool, out: &mut Vec<u8>) {
        match self {
            Self::Object(members) => {
                out.push(b'{');
                let mut first = true;
                for (key, node) in members {
                    if omit_empty && node.is_missing(record) {
                        continue;
                    }
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    write_json_text(key.as_bytes(), out);
                    out.push(b':');
                    node.render(record, omit_empty, out);
                }
                out.push(b'}');
            }
            Self::Array(items) => {
                out.push(b'[');
                let items = items.iter().filter(|item| !(omit_empty && item.is_missing(record)));
                for (n, item) in items.enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    item.render(record, omit_empty, out);
                }
                out.push(b']');
            }
            Self::Typed(Single { operator, max_len }) => match operator.value(record) {
                Value::Missing => out.extend_from_slice(b"null"),
                value @ Value::Number(_) => value.write(out),
                value => write_json_with(|text| write_truncated(&value, *max_len, text), out),
            },
            Self::Template(template) => {
                let missing: &[u8] = if omit_empty { b"" } else { b"-" };
                write_json_with(|text| template.render(record, missing, text), out);
            }
            Self::Literal(value) => out.extend_from_slice(value.to_string().as_bytes()),
        }
    }

    fn is_missing(&self, record: &AccessRecord) -> bool {
        match self {
            Self::Typed(single) => matches!(single.operator.value(record), Value::Missing),
            Self::Object(members) => members.iter().all(|(_, node)| node.is_missing(record)),
            Self::Array(_) | Self::Template(_) | Self::Literal(_) => false,
        }
    }
}

/// Byte by byte if it is little: most literals are a blank, and calling for a copy costs more than making it.
fn append(text: &[u8], out: &mut Vec<u8>) {
    if text.len() > 4 {
        return out.extend_from_slice(text);
    }
    for byte in text {
        out.push(*byte);
    }
}

fn write_truncated(value: &Value<'_>, max_len: Option<usize>, out: &mut Vec<u8>) {
    let start = out.len();
    value.write(out);
    if let Some(max_len) = max_len {
        out.truncate(start.saturating_add(max_len));
    }
}

fn write_json_with(render: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let mut text = Vec::new();
    render(&mut text);
    write_json_text(&text, out);
}

/// What is not UTF-8 as a whole is taken for Latin-1, as in Envoy: JSON has no way to carry bytes.
fn write_json_text(text: &[u8], out: &mut Vec<u8>) {
    let text = match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => text.iter().copied().map(char::from).collect(),
    };
    // Serialising a string to memory cannot fail.
    let _ = serde_json::to_writer(out, &*text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_format_is_refused_by_operator_and_place() {
        let check = |format: &str, expect: &str| {
            let error = Template::compile(format, &mut Plan::default()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{expect}; write %% for a percent sign"),
                "{format}"
            );
        };
        check("a %NOPE%", "%NOPE% at byte 2 is not an operator we know");
        check("%DURATION(x)%", "%DURATION% at byte 0 takes no parameter");
        check("%REQ(a b)%", "%REQ% at byte 0 \"a b\" is not a header name");
        check(
            "%REQ(a%",
            "%REQ% at byte 0 has a parameter without a closing parenthesis",
        );
        check("100% sure", "%% at byte 3 is a percent sign that starts no operator");
        check("%DURATION", "%DURATION% at byte 0 has no closing percent sign");
        check("%REQ(a):x%", "%REQ% at byte 0 has a length that is not a number");
    }
}
