//! Reads a line of Istio's default access log format.

use std::fmt;

/// The fields of a line, in order, as Istio's default text format has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `%START_TIME%`
    StartTime,
    /// Method, path and protocol.
    Request,
    /// `%RESPONSE_CODE%`
    Code,
    /// `%RESPONSE_FLAGS%`
    Flags,
    /// `%RESPONSE_CODE_DETAILS%`
    Details,
    /// `%CONNECTION_TERMINATION_DETAILS%`
    Termination,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    TransportFailure,
    /// `%BYTES_RECEIVED%`
    BytesReceived,
    /// `%BYTES_SENT%`
    BytesSent,
    /// `%DURATION%`
    Duration,
    /// `%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%`
    ServiceTime,
    /// `%REQ(X-FORWARDED-FOR)%`
    ForwardedFor,
    /// `%REQ(USER-AGENT)%`
    UserAgent,
    /// `%REQ(X-REQUEST-ID)%`
    RequestId,
    /// `%REQ(:AUTHORITY)%`
    Authority,
    /// `%UPSTREAM_HOST%`
    UpstreamHost,
    /// `%UPSTREAM_CLUSTER_RAW%`
    Cluster,
    /// `%UPSTREAM_LOCAL_ADDRESS%`
    UpstreamLocal,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`
    Local,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`
    Remote,
    /// `%REQUESTED_SERVER_NAME%`
    Sni,
    /// `%ROUTE_NAME%`
    Route,
}

const FIELDS: usize = Field::Route as usize + 1;

/// A line, cut into its fields.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    text: String,
    fields: Vec<String>,
}

impl Line {
    /// Reads a line; `None` if it does not have exactly the fields of the format.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = Vec::with_capacity(FIELDS);
        let mut rest = text;
        while !rest.is_empty() {
            let (field, after) = field(rest)?;
            fields.push(field.to_owned());
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        let text = text.to_owned();
        (fields.len() == FIELDS).then_some(Self { text, fields })
    }

    /// A field, without its quotes.
    pub fn get(&self, field: Field) -> &str {
        self.fields.get(field as usize).map_or("", String::as_str)
    }

    /// The whole line.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The first field of a text, and what follows it.
fn field(text: &str) -> Option<(&str, &str)> {
    let (open, close) = match text.as_bytes().first()? {
        b'"' => (1, '"'),
        b'[' => (1, ']'),
        _ => (0, ' '),
    };
    let body = text.get(open..)?;
    match body.split_once(close) {
        Some((field, after)) => Some((field, after)),
        None if open == 0 => Some((body, "")),
        None => None,
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = r#"[2026-11-24T17:37:08.045Z] "HEAD / HTTP/2" 403 - rbac_access_denied_matched_policy[none] - "-" 0 19 4 - "10.1.0.17" "a b" "095711e6" "example.com" "-" outbound|80||example.com - 10.1.4.12:8080 10.1.0.17:44404 outbound_.80_.x_.y -"#;
    const TCP: &str = r#"[2026-11-24T18:04:38.608Z] "- - -" 0 - - - "-" 1363 5539 10 - "-" "-" "-" "-" "93.184.216.34:443" outbound|443||example.com 10.1.4.31:51098 10.1.4.31:8443 10.1.1.15:57030 example.com -"#;

    #[test]
    fn fields_are_found_by_name() {
        let line = Line::parse(HTTP).unwrap();
        for (field, expect) in [
            (Field::StartTime, "2026-11-24T17:37:08.045Z"),
            (Field::Request, "HEAD / HTTP/2"),
            (Field::Code, "403"),
            (Field::Details, "rbac_access_denied_matched_policy[none]"),
            (Field::BytesSent, "19"),
            (Field::UserAgent, "a b"),
            (Field::Cluster, "outbound|80||example.com"),
            (Field::UpstreamLocal, "-"),
            (Field::Route, "-"),
        ] {
            assert_eq!(line.get(field), expect, "{field:?}");
        }
        assert_eq!(Line::parse(TCP).unwrap().get(Field::Sni), "example.com");
    }

    #[test]
    fn what_has_another_shape_is_no_line() {
        for text in ["", "hello", "[2026", &HTTP[..HTTP.len() - 2], &format!("{HTTP} -")] {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }
}
