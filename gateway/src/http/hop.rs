//! Headers that belong to one hop (RFC 9110 section 7.6.1) and the wish to switch protocols that travels in them.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
};
use smallvec::SmallVec;

use crate::error::BadRequest;

/// The protocol that a client wants to switch to, or that its server switches to; and what `connection` says of it, both in
/// the sender's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upgrade(pub(crate) HeaderValue, HeaderValue);

/// Those that are dropped whatever they say.
const ONE_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];
/// A token that is a wish we may ignore (RFC 9110 section 7.8) and Envoy does: the request is served as it is.
const H2C: &str = "h2c";
/// Elements of `connection` that are too many.
const NOMINATED: usize = 10;

/// Removes what belongs to the hop a message came over, `te` reduced to `trailers`. Returns the protocol that the sender
/// wants to switch to.
pub(crate) fn strip(headers: &mut HeaderMap, version: Version) -> Option<Upgrade> {
    // Most messages have none of them, and one pass over the names is cheaper than a look-up of each.
    if !headers.keys().any(is_of_one_hop) {
        return None;
    }
    let upgrade = if version < Version::HTTP_2 {
        wanted_upgrade(headers)
    } else {
        None
    };
    remove_nominated(headers);
    for name in &ONE_HOP {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let lines = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
        let trailers = lines
            .flat_map(|line| line.split(','))
            .any(|token| token.trim() == "trailers");
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    upgrade
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    *name == TE || ONE_HOP.contains(name)
}

/// Refuses a `connection` that names more headers than an honest client would, or one whose removal would hide where the
/// request comes from; Envoy's limits.
pub(crate) fn check_nominated(headers: &HeaderMap) -> Result<(), BadRequest> {
    let is_ours = |token: &str| {
        token.starts_with(':')
            || ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
                .iter()
                .any(|name| token.eq_ignore_ascii_case(name))
    };
    let count = tokens(headers, &CONNECTION).filter(|token| !token.is_empty()).count();
    if count >= NOMINATED || tokens(headers, &CONNECTION).any(is_ours) {
        return Err(BadRequest::ConnectionHeader);
    }
    Ok(())
}

/// Whether all who read a response over HTTP/1 agree where its body ends (RFC 9112 section 6.3): it has one length, or is
/// chunked and nothing else.
pub(crate) fn has_one_end(headers: &HeaderMap, version: Version) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        _ if version >= Version::HTTP_2 => true,
        (None, _) => lengths <= 1,
        (Some(coding), None) => lengths == 0 && coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether `connection` names a header.
pub(crate) fn nominates(headers: &HeaderMap, name: &HeaderName) -> bool {
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(name.as_str()))
}

/// Writes the wish, or the consent, to switch protocols.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, upgrade: Upgrade) {
    headers.insert(CONNECTION, upgrade.1);
    headers.insert(header::UPGRADE, upgrade.0);
}

/// What a response says to a client of HTTP/1.0, which `keeps` its connection or takes it to end.
pub(crate) fn set_persistence(headers: &mut HeaderMap, keeps: bool) {
    let word = HeaderValue::from_static(if keeps { "keep-alive" } else { "close" });
    headers.entry(CONNECTION).or_insert(word);
}

fn wanted_upgrade(headers: &HeaderMap) -> Option<Upgrade> {
    if !nominates(headers, &UPGRADE) {
        return None;
    }
    let protocol = headers.get(UPGRADE)?.clone();
    let words: SmallVec<[&str; 2]> = tokens(headers, &CONNECTION).filter(|token| is_known(token)).collect();
    let connection = HeaderValue::from_str(&words.join(", ")).ok()?;
    (!protocol.as_bytes().eq_ignore_ascii_case(H2C.as_bytes())).then_some(Upgrade(protocol, connection))
}

/// What `connection` says besides naming headers.
fn is_known(token: &str) -> bool {
    ["close", "keep-alive", "upgrade"]
        .iter()
        .any(|known| token.eq_ignore_ascii_case(known))
}

fn remove_nominated(headers: &mut HeaderMap) {
    // What `te` says is sorted out apart.
    let is_interesting = |token: &&str| !is_known(token) && !token.eq_ignore_ascii_case("te");
    // An invalid name is no header's.
    let names: SmallVec<[HeaderName; 2]> = tokens(headers, &CONNECTION)
        .filter(is_interesting)
        .filter_map(|token| token.parse().ok())
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// The elements of a comma-separated list over all lines of a header.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(|token| token.split(';').next().unwrap_or_default().trim())
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
    fn headers_of_one_hop_stay_on_it() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-a"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip;q=0.5, trailers"),
            ("proxy-authorization", "secret"),
        ]);
        assert_eq!(strip(&mut headers, Version::HTTP_11), None);
        assert_eq!(
            headers,
            map(&[("x-b", "2"), ("te", "trailers"), ("proxy-authorization", "secret")])
        );
    }

    #[test]
    fn te_without_trailers_is_dropped() {
        for te in ["gzip", "Trailers", "trailers;q=1"] {
            let mut headers = map(&[("te", te)]);
            strip(&mut headers, Version::HTTP_11);
            assert!(headers.is_empty(), "{te}");
        }
    }

    #[test]
    fn te_with_trailers_cannot_be_nominated_away() {
        let mut headers = map(&[("connection", "te"), ("te", "trailers, deflate;q=0.5")]);
        strip(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("te", "trailers")]));
    }

    #[test]
    fn what_only_we_may_remove_cannot_be_nominated() {
        let check = |connection: &'static str, accepted: bool| {
            let judged = check_nominated(&map(&[("connection", connection)]));
            assert_eq!(judged.is_ok(), accepted, "{connection}");
        };
        check("close, x-a", true);
        check("X-Forwarded-For", false);
        check("x-a, x-forwarded-host", false);
        check("x-forwarded-proto", false);
        check(":path", false);
        check("a,b,c,d,e,f,g,h,i", true);
        check("a,b,c,d,e,f,g,h,i,j", false);
    }

    #[test]
    fn a_response_ends_in_one_place() {
        let check = |lines: &[(&'static str, &'static str)], one: bool| {
            assert_eq!(has_one_end(&map(lines), Version::HTTP_11), one, "{lines:?}");
        };
        check(&[], true);
        check(&[("content-length", "3")], true);
        check(&[("content-length", "3"), ("content-length", "3")], false);
        check(&[("transfer-encoding", "Chunked")], true);
        check(&[("transfer-encoding", "gzip, chunked")], false);
        check(&[("transfer-encoding", "gzip")], false);
        check(&[("transfer-encoding", "chunked"), ("content-length", "3")], false);
    }

    #[test]
    fn an_upgrade_is_a_wish_only_with_both_headers() {
        let wish = |lines: &[(&'static str, &'static str)], version| strip(&mut map(lines), version).map(|wish| wish.0);
        let both = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(wish(&both, Version::HTTP_11).unwrap(), "websocket");
        assert_eq!(wish(&both, Version::HTTP_2), None);
        assert_eq!(wish(&both[1..], Version::HTTP_11), None);
        assert_eq!(wish(&both[..1], Version::HTTP_11), None);
        assert_eq!(
            wish(
                &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")],
                Version::HTTP_11
            ),
            None
        );
    }
}
