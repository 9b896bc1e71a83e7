//! Which kinds of objects are read, by `apiVersion` and `kind`.

/// How a document is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Its content is read.
    Read(Shape),
    /// It holds other objects.
    Expand,
    /// It concerns no proxy.
    Skip,
    /// Istio has the kind, we do not.
    NotImplemented,
    /// The kind is known, its group or version is not.
    UnknownVersion,
    /// The group is Istio's, the kind is not.
    UnknownKind,
}

/// Where a kind keeps its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Below `spec`.
    Spec,
    /// Beside `metadata`.
    TopLevel,
}

const NETWORKING: &[&str] = &[
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "Sidecar",
    "VirtualService",
];
const SECURITY: &[&str] = &["AuthorizationPolicy", "PeerAuthentication"];
const NOT_IMPLEMENTED: &[&str] = &[
    "EnvoyFilter",
    "ProxyConfig",
    "RequestAuthentication",
    "Telemetry",
    "TrafficExtension",
    "WasmPlugin",
    "WorkloadEntry",
    "WorkloadGroup",
];
const ISTIO: &str = "istio.io";
/// Istio's installer; its objects configure no proxy.
const INSTALLER: &str = "install.istio.io";
const KUBERNETES: &str = "k8s.io";

/// How an object is treated. A kind of Istio's in a group that nobody knows is a mistake rather than somebody else's: to pass
/// over a policy for a misspelt group would leave open what it closes.
pub(super) fn treatment(api_version: &str, kind: &str) -> Treatment {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let istio = |versions: &[&str]| {
        if versions.contains(&version) {
            Treatment::Read(Shape::Spec)
        } else {
            Treatment::UnknownVersion
        }
    };
    match (group, kind) {
        ("networking.istio.io", kind) if NETWORKING.contains(&kind) => istio(&["v1", "v1beta1", "v1alpha3"]),
        ("security.istio.io", kind) if SECURITY.contains(&kind) => istio(&["v1", "v1beta1"]),
        ("", "List") => Treatment::Expand,
        ("", "Service") => Treatment::Read(Shape::Spec),
        ("", "Namespace") | ("discovery.k8s.io", "EndpointSlice") => Treatment::Read(Shape::TopLevel),
        (INSTALLER, _) => Treatment::Skip,
        (group, kind) if is_of(group, ISTIO) && NOT_IMPLEMENTED.contains(&kind) => Treatment::NotImplemented,
        (group, kind) if !is_of(group, KUBERNETES) && self::istio().contains(&kind) => Treatment::UnknownVersion,
        (group, _) if is_of(group, ISTIO) => Treatment::UnknownKind,
        _ => Treatment::Skip,
    }
}

/// Every kind of Istio's, implemented or not.
pub(super) fn istio() -> Vec<&'static str> {
    [NETWORKING, SECURITY, NOT_IMPLEMENTED].concat()
}

fn is_of(group: &str, domain: &str) -> bool {
    group
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_kinds_are_read_refused_or_corrected_and_others_passed_over() {
        use Treatment::{Expand, NotImplemented, Read, Skip, UnknownKind, UnknownVersion};
        for (api_version, kind, expected) in [
            ("networking.istio.io/v1", "Gateway", Read(Shape::Spec)),
            ("networking.istio.io/v1beta1", "VirtualService", Read(Shape::Spec)),
            ("networking.istio.io/v1alpha3", "Sidecar", Read(Shape::Spec)),
            ("networking.istio.io/v2", "Sidecar", UnknownVersion),
            ("security.istio.io/v1beta1", "AuthorizationPolicy", Read(Shape::Spec)),
            ("security.istio.io/v1alpha3", "AuthorizationPolicy", UnknownVersion),
            ("networking.istio.io/v1", "AuthorizationPolicy", UnknownVersion),
            ("security.isto.io/v1", "AuthorizationPolicy", UnknownVersion),
            ("v1", "PeerAuthentication", UnknownVersion),
            ("networking.istio.io/v1alpha3", "EnvoyFilter", NotImplemented),
            ("security.istio.io/v1", "AuthorisationPolicy", UnknownKind),
            ("v1", "List", Expand),
            ("v1", "Service", Read(Shape::Spec)),
            ("v1", "Namespace", Read(Shape::TopLevel)),
            ("discovery.k8s.io/v1", "EndpointSlice", Read(Shape::TopLevel)),
            ("gateway.networking.k8s.io/v1", "Gateway", Skip),
            ("install.istio.io/v1alpha1", "IstioOperator", Skip),
            ("networking.k8s.io/v1", "NetworkPolicy", Skip),
            ("apps/v1", "Deployment", Skip),
        ] {
            assert_eq!(treatment(api_version, kind), expected, "{api_version} {kind}");
        }
    }
}
