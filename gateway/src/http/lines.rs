//! Headers that come in several lines although they are one list (RFC 9110 section 5.3). Envoy keeps them as one; so do we,
//! since logs and policies see a header's first line.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

/// Lists of requests.
const REQUEST: [HeaderName; 29] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::PRAGMA,
    header::REFERER,
    header::USER_AGENT,
    header::VIA,
    HeaderName::from_static("cdn-loop"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-client-trace-id"),
    HeaderName::from_static("x-envoy-attempt-count"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];
/// Lists of responses.
const RESPONSE: [HeaderName; 20] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::VARY,
    header::VIA,
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("x-request-id"),
];

/// Makes one line of each list of a request.
pub(crate) fn join_request(headers: &mut HeaderMap, version: Version) {
    if !has_repeated(headers) {
        return;
    }
    REQUEST.iter().for_each(|name| join(headers, name));
    if version >= Version::HTTP_2 {
        // RFC 9113 section 8.2.3: crumbs become one line again for those who do not know about them.
        join_with(headers, &header::COOKIE, b"; ");
    }
}

/// Makes one line of each list of a response.
pub(crate) fn join_response(headers: &mut HeaderMap) {
    if has_repeated(headers) {
        RESPONSE.iter().for_each(|name| join(headers, name));
    }
}

/// Makes one line of a header's lines.
pub(crate) fn join(headers: &mut HeaderMap, name: &HeaderName) {
    join_with(headers, name, b",");
}

fn has_repeated(headers: &HeaderMap) -> bool {
    headers.len() > headers.keys_len()
}

fn join_with(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8]) {
    let lines = headers.get_all(name);
    if lines.iter().nth(1).is_none() {
        return;
    }
    // An empty line adds nothing, not even a separator.
    let lines = lines.iter().map(HeaderValue::as_bytes);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if let Ok(line) = HeaderValue::from_bytes(&lines.join(separator)) {
        headers.insert(name, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn lists_become_one_line_and_others_stay() {
        let mut headers = map(&[("accept", "a"), ("accept", "b"), ("x-a", "1"), ("x-a", "2")]);
        join_request(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("accept", "a,b"), ("x-a", "1"), ("x-a", "2")]));
        let mut headers = map(&[("accept", ""), ("accept", "b"), ("via", ""), ("via", "")]);
        join_request(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("accept", "b"), ("via", "")]));
        let mut headers = map(&[("vary", "a"), ("vary", "b"), ("set-cookie", "1"), ("set-cookie", "2")]);
        join_response(&mut headers);
        assert_eq!(
            headers,
            map(&[("vary", "a,b"), ("set-cookie", "1"), ("set-cookie", "2")])
        );
    }

    #[test]
    fn crumbs_are_of_http2_alone() {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
        let mut headers = map(&crumbs);
        join_request(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&crumbs));
        join_request(&mut headers, Version::HTTP_2);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }
}
