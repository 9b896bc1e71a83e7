//! What a request says about those who sent it on: `x-forwarded-*`, `x-request-id` and Envoy's own headers.
//!
//! At an edge (`use_remote_address`) nothing of this is believed. Since Envoy 1.33 no address is internal unless configured
//! so, and we have no way to configure it: every request is external.

use std::{
    cell::{OnceCell, RefCell},
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use certs::Certificate;
use http::{HeaderMap, HeaderName, HeaderValue, uri::Scheme};
use mesh::listener::{ClientCertDetails, ForwardClientCert, Http};
use rand::{RngExt, rngs::SmallRng};
use uuid::Builder;

use super::{
    head::{Head, joined},
    lines,
};
use crate::connection::{Connection, Peer};

/// What is needed to speak for ourselves.
pub(crate) struct Edge<'a> {
    pub(crate) settings: &'a Http,
    pub(crate) conn: &'a Connection,
    pub(crate) rng: &'a RefCell<SmallRng>,
    /// What is said of the peer.
    pub(crate) peer: &'a PeerDescription,
}

/// What is the same for all requests of a connection, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct PeerDescription {
    /// The element of `x-forwarded-client-cert`.
    certificate: RefCell<Option<(ClientCertDetails, HeaderValue)>>,
    address: OnceCell<Option<HeaderValue>>,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Envoy's instructions to itself, which an external client may not give.
const INTERNAL: [HeaderName; 14] = [
    HeaderName::from_static("x-envoy-internal"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
];
/// Those which only an edge drops.
const EDGE_ONLY: [HeaderName; 6] = [
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-original-host"),
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    EXTERNAL_ADDRESS,
];

/// Removes what is not true, adds what we know.
pub(crate) fn apply(head: &mut Head, edge: &Edge<'_>) {
    let is_edge = edge.settings.use_remote_address;
    remove_all(&mut head.headers, &INTERNAL);
    if is_edge {
        remove_all(&mut head.headers, &EDGE_ONLY);
    }
    client_address(head, edge);
    forwarded_proto(head, edge);
    request_id(&mut head.headers, edge);
    client_certificate(&mut head.headers, edge);
}

fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    // Most requests carry none of them, and one pass over the names is cheaper than a look-up of each.
    if headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
        for name in names {
            headers.remove(name);
        }
    }
}

fn client_address(head: &mut Head, edge: &Edge<'_>) {
    let peer = edge.conn.remote.ip();
    let hops = usize::try_from(edge.settings.xff_trusted_hops).unwrap_or(usize::MAX);
    let is_edge = edge.settings.use_remote_address;
    let from_right = if is_edge { hops } else { hops.saturating_add(1) };
    if let Some(told) = forwarded_hop(&head.headers, from_right) {
        head.client = SocketAddr::new(told, 0);
    }
    if is_edge {
        let address = edge.peer.address(peer);
        append_forwarded_for(&mut head.headers, peer, address);
        let client = head.client.ip();
        if let Some(client) = if client == peer { address.cloned() } else { text(client) } {
            head.headers.insert(EXTERNAL_ADDRESS, client);
        }
    }
}

fn text(address: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&address.to_string()).ok()
}

/// The `count`-th address from the right of `x-forwarded-for`. `None` for zero.
fn forwarded_hop(headers: &HeaderMap, count: usize) -> Option<IpAddr> {
    let from_right = count.checked_sub(1)?;
    let list = joined(headers, &FORWARDED_FOR)?;
    list.rsplit(',').nth(from_right)?.trim().parse().ok()
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: IpAddr, address: Option<&HeaderValue>) {
    let list = match joined(headers, &FORWARDED_FOR) {
        Some(list) if !list.is_empty() => HeaderValue::from_str(&format!("{list},{peer}")).ok(),
        _ => address.cloned(),
    };
    if let Some(list) = list {
        headers.insert(FORWARDED_FOR, list);
    }
}

/// A proxy in front may have ended the client's TLS; an edge without one knows better.
fn forwarded_proto(head: &mut Head, edge: &Edge<'_>) {
    let trusted = !edge.settings.use_remote_address || edge.settings.xff_trusted_hops > 0;
    match head.headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(told) if trusted && told.eq_ignore_ascii_case(b"https") => head.scheme = Scheme::HTTPS,
        Some(told) if trusted && told.eq_ignore_ascii_case(b"http") => head.scheme = Scheme::HTTP,
        Some(_) if trusted => {}
        _ => {
            let tls = edge.conn.tls.is_some();
            head.headers.insert(
                FORWARDED_PROTO,
                HeaderValue::from_static(if tls { "https" } else { "http" }),
            );
        }
    }
}

fn request_id(headers: &mut HeaderMap, edge: &Edge<'_>) {
    let settings = edge.settings;
    let keep = !settings.use_remote_address || settings.preserve_external_request_id;
    let has_id = headers.get(REQUEST_ID).is_some_and(|id| !id.is_empty());
    if settings.generate_request_id == Some(false) || (keep && has_id) {
        return;
    }
    let id = Builder::from_random_bytes(edge.rng.borrow_mut().random()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
        headers.insert(REQUEST_ID, value);
    }
}

fn client_certificate(headers: &mut HeaderMap, edge: &Edge<'_>) {
    let mtls = edge.conn.peer().is_some();
    match edge.settings.client_cert {
        ForwardClientCert::AlwaysForwardOnly => {}
        ForwardClientCert::ForwardOnly if mtls => {}
        ForwardClientCert::AppendForward(details) if mtls => {
            if let Some(value) = edge.peer.certificate(edge.conn, details) {
                headers.append(FORWARDED_CLIENT_CERT, value);
                lines::join(headers, &FORWARDED_CLIENT_CERT);
            }
        }
        ForwardClientCert::SanitizeSet(details) if mtls => {
            headers.remove(FORWARDED_CLIENT_CERT);
            if let Some(value) = edge.peer.certificate(edge.conn, details) {
                headers.insert(FORWARDED_CLIENT_CERT, value);
            }
        }
        ForwardClientCert::Sanitize
        | ForwardClientCert::ForwardOnly
        | ForwardClientCert::AppendForward(_)
        | ForwardClientCert::SanitizeSet(_) => {
            headers.remove(FORWARDED_CLIENT_CERT);
        }
    }
}

impl PeerDescription {
    /// The peer's address as a header's value.
    fn address(&self, peer: IpAddr) -> Option<&HeaderValue> {
        self.address.get_or_init(|| text(peer)).as_ref()
    }

    /// The element with these details. `None`: the peer showed no certificate.
    fn certificate(&self, conn: &Connection, details: ClientCertDetails) -> Option<HeaderValue> {
        let mut made = self.certificate.borrow_mut();
        match &*made {
            Some((of, value)) if *of == details => Some(value.clone()),
            _ => {
                let value = HeaderValue::from_str(&describe(conn, conn.peer()?, details)).ok()?;
                *made = Some((details, value.clone()));
                Some(value)
            }
        }
    }
}

/// Envoy's element: `By=…;Hash=…;Cert="…";Chain="…";Subject="…";URI=…;DNS=…`.
fn describe(conn: &Connection, peer: &Peer, details: ClientCertDetails) -> String {
    let certificate = &peer.certificate;
    let mut parts = Vec::new();
    let local = conn.tls.as_ref().and_then(|tls| tls.local.as_ref());
    parts.extend(
        local
            .into_iter()
            .flat_map(|local| &local.uri_sans)
            .map(|uri| format!("By={uri}")),
    );
    parts.push(format!("Hash={}", certificate.fingerprint()));
    if details.cert {
        parts.push(format!("Cert=\"{}\"", url_encoded(&certificate.pem())));
    }
    if details.chain {
        let pem = |der| {
            Certificate::parse(der)
                .map(|certificate| certificate.pem())
                .unwrap_or_default()
        };
        let chain: String = peer.chain.iter().map(pem).collect();
        parts.push(format!("Chain=\"{}\"", url_encoded(&chain)));
    }
    if details.subject {
        // RFC 2253 has escaped its quotation marks and control characters already.
        parts.push(format!("Subject=\"{}\"", certificate.subject));
    }
    if details.uri {
        let uris = &certificate.uri_sans;
        parts.extend(uris.iter().map(|uri| format!("URI={uri}")));
        parts.extend(uris.is_empty().then(|| "URI=".to_owned()));
    }
    if details.dns {
        parts.extend(certificate.dns_sans.iter().map(|name| format!("DNS={name}")));
    }
    parts.join(";")
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use certs::{CaRequest, CertificateAuthority, LeafRequest, San};

    use super::*;
    use crate::{connection::TlsFacts, http::tests::plain};

    const ALL: ClientCertDetails = ClientCertDetails {
        subject: true,
        cert: true,
        chain: false,
        dns: true,
        uri: true,
    };

    #[test]
    fn a_peer_is_described_in_envoys_order() {
        let now = SystemTime::now();
        let ca = CertificateAuthority::root(&CaRequest::named("mesh"), now).unwrap();
        let issue = |uri: &str| {
            let request = LeafRequest::new([San::Uri(uri.to_owned()), San::Dns("a.test".to_owned())]);
            ca.issue(&request, now).unwrap().leaf().clone()
        };
        let peer = issue("spiffe://td/ns/team-x/sa/test");
        let tls = TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            peer: Some(Peer {
                certificate: peer.clone(),
                chain: vec![peer.der.clone()],
            }),
            peer_names: vec!["spiffe://td/ns/team-x/sa/test".to_owned()],
            local: Some(Arc::new(issue("spiffe://td/ns/istio-egress/sa/gateway"))),
        };
        let conn = Connection {
            tls: Some(tls),
            ..plain()
        };
        let described = PeerDescription::default();
        let value = described.certificate(&conn, ALL).unwrap();
        let parts: Vec<_> = value.to_str().unwrap().split(';').collect();
        assert_eq!(parts[0], "By=spiffe://td/ns/istio-egress/sa/gateway");
        assert_eq!(parts[1], format!("Hash={}", peer.fingerprint()));
        assert!(parts[2].starts_with("Cert=\"-----BEGIN%20CERTIFICATE-----%0A") && parts[2].ends_with("%0A\""));
        assert_eq!(
            parts[3..],
            ["Subject=\"\"", "URI=spiffe://td/ns/team-x/sa/test", "DNS=a.test"]
        );
        let brief = described.certificate(&conn, ClientCertDetails::default()).unwrap();
        assert_eq!(brief.to_str().unwrap().split(';').count(), 2);
    }
}
