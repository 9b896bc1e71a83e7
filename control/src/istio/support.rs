//! What Istio's API has and Sallyport leaves out, field by field, and what may be skipped without harm.
//!
//! A field is named by our type and its name in YAML. What is neither in a type nor here is a mistake of the writer.

/// What to do about a field that a type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Istio has it and it would change what proxies do.
    NotImplemented,
    /// It changes nothing that a proxy does.
    Ignored,
    /// Nobody has it.
    Unknown,
}

/// Fields of Istio's API that we do not act on.
const NOT_IMPLEMENTED: &[(&str, &[&str])] = &[
    ("Server", &["bind", "defaultEndpoint"]),
    ("ServerPort", &["targetPort"]),
    (
        "ServerTls",
        &[
            "serverCertificate",
            "privateKey",
            "caCertificates",
            "caCrl",
            "credentialName",
            "credentialNames",
            "caCertCredentialName",
            "tlsCertificates",
            "verifyCertificateSpki",
            "verifyCertificateHash",
            "minProtocolVersion",
            "maxProtocolVersion",
            "cipherSuites",
            "ecdhCurves",
        ],
    ),
    ("VirtualService", &["tcp"]),
    (
        "HttpRoute",
        &["delegate", "fault", "mirrorPercent", "mirror_percent", "corsPolicy"],
    ),
    ("HttpMatch", &["statPrefix"]),
    ("HttpRedirect", &["derivePort"]),
    (
        "HttpRetry",
        &["retryRemoteLocalities", "retryIgnorePreviousHosts", "backoff"],
    ),
    ("TlsMatch", &["destinationSubnets"]),
    ("DestinationRule", &["workloadSelector"]),
    (
        "TrafficPolicy",
        &["outlierDetection", "tunnel", "proxyProtocol", "retryBudget"],
    ),
    ("PortTrafficPolicy", &["outlierDetection"]),
    (
        "LoadBalancer",
        &["consistentHash", "localityLbSetting", "warmupDurationSecs", "warmup"],
    ),
    ("TcpPool", &["tcpKeepalive"]),
    ("HttpPool", &["maxConcurrentStreams"]),
    ("ClientTls", &["credentialName", "caCrl"]),
    ("ServiceEntry", &["workloadSelector"]),
    ("WorkloadEntry", &["network", "locality"]),
    ("Sidecar", &["ingress", "inboundConnectionPool"]),
    ("EgressListener", &["port", "bind", "captureMode"]),
    ("OutboundTrafficPolicy", &["egressProxy"]),
    ("AuthorizationPolicy", &["targetRef", "targetRefs", "provider"]),
    ("Service", &["externalName"]),
];

/// Words of Istio's enumerations that we do not implement.
const VALUES_NOT_IMPLEMENTED: &[(&str, &[&str])] = &[
    (
        "Protocol",
        &["GRPC-WEB", "HTTP_PROXY", "UDP", "MONGO", "REDIS", "MYSQL"],
    ),
    (
        "ServerTlsMode",
        &["SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "OPTIONAL_MUTUAL"],
    ),
    ("SimpleLb", &["PASSTHROUGH"]),
    ("Resolution", &["DYNAMIC_DNS"]),
    ("OutboundMode", &["ALLOW_ANY_DYNAMIC_DNS"]),
    ("Action", &["CUSTOM"]),
    ("ResponseBody", &["bytes"]),
    ("ServiceType", &["ExternalName"]),
    ("AddressType", &["FQDN"]),
];

/// Fields that no proxy depends on.
const IGNORED: &[(&str, &[&str])] = &[(
    "Metadata",
    &[
        "uid",
        "resourceVersion",
        "generation",
        "managedFields",
        "finalizers",
        "ownerReferences",
        "generateName",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ],
)];

/// Types of which we read what we need and skip the rest: Kubernetes' own.
const LENIENT: &[&str] = &[
    "Namespace",
    "Service",
    "ServicePort",
    "EndpointSlice",
    "SliceEndpoint",
    "SlicePort",
    "EndpointConditions",
];

/// Words longer than this are not compared with known ones.
const MAX_WORD: usize = 64;

/// What to do about a field that our type does not have.
pub(super) fn field(type_name: &str, name: &str) -> Support {
    if listed(NOT_IMPLEMENTED, type_name, name) {
        Support::NotImplemented
    } else if LENIENT.contains(&type_name) || listed(IGNORED, type_name, name) {
        Support::Ignored
    } else {
        Support::Unknown
    }
}

/// Whether Istio has this word in an enumeration and we do not.
pub(super) fn value_not_implemented(type_name: &str, word: &str) -> bool {
    listed(VALUES_NOT_IMPLEMENTED, type_name, word)
}

fn listed(table: &[(&str, &[&str])], type_name: &str, name: &str) -> bool {
    table
        .iter()
        .any(|(listed, names)| *listed == type_name && names.contains(&name))
}

/// Advice for a word that nobody knows: the one that was probably meant, or all there are.
pub(super) fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("accepted here: {}", list(known)),
    }
}

/// The known word with the fewest differences, if there are few.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let limit = word.chars().count().div_ceil(3).max(1);
    let distances = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// `a, b or c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_complete() {
        let known = ["hosts", "gateways", "http", "exportTo"];
        assert_eq!(suggest("host", &known), "did you mean hosts?");
        assert_eq!(suggest("exportto", &known), "did you mean exportTo?");
        assert_eq!(
            suggest("zzzz", &known),
            "accepted here: hosts, gateways, http or exportTo"
        );
    }

    #[test]
    fn a_field_is_left_out_skipped_or_unknown() {
        assert_eq!(field("HttpRoute", "corsPolicy"), Support::NotImplemented);
        assert_eq!(field("Metadata", "uid"), Support::Ignored);
        assert_eq!(field("Service", "sessionAffinity"), Support::Ignored);
        assert_eq!(field("HttpRoute", "mirorr"), Support::Unknown);
    }
}
