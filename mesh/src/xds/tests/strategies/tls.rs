//! TLS contexts.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::{matcher::string_matcher, secret, word};
use crate::tls::{
    CertificateSource, DownstreamTls, SanKind, SanMatcher, TlsVersion, TrustSource, UpstreamTls, Validation,
};

pub(super) fn versions() -> BoxedStrategy<(Option<TlsVersion>, Option<TlsVersion>)> {
    let (two, three) = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
    select(vec![
        (None, None),
        (two, None),
        (two, three),
        (three, three),
        (None, three),
    ])
    .boxed()
}

pub(super) fn alpn() -> BoxedStrategy<Vec<String>> {
    let all = ["h2", "http/1.1", "istio"].map(str::to_owned).to_vec();
    subsequence(all, 0..3).prop_shuffle().boxed()
}

pub(super) fn certificate() -> BoxedStrategy<CertificateSource> {
    prop_oneof![
        secret().prop_map(CertificateSource::Sds),
        Just(CertificateSource::Files {
            chain: "/etc/certs/cert-chain.pem".into(),
            key: "/etc/certs/key.pem".into(),
        }),
    ]
    .boxed()
}

pub(super) fn validation() -> BoxedStrategy<Validation> {
    let trust = prop_oneof![
        secret().prop_map(TrustSource::Sds),
        Just(TrustSource::File("/etc/certs/root-cert.pem".into())),
    ];
    let san = (select(vec![SanKind::Dns, SanKind::Uri, SanKind::Ip]), string_matcher())
        .prop_map(|(kind, name)| SanMatcher { kind, name });
    (trust, vec(san, 0..3))
        .prop_map(|(trust, sans)| Validation { trust, sans })
        .boxed()
}

pub(super) fn downstream_tls() -> BoxedStrategy<DownstreamTls> {
    (
        certificate(),
        option::of(validation()),
        any::<bool>(),
        alpn(),
        versions(),
    )
        .prop_map(
            |(certificate, validation, required, alpn, (min_version, max_version))| DownstreamTls {
                certificate,
                require_client_certificate: required && validation.is_some(),
                validation,
                alpn,
                min_version,
                max_version,
            },
        )
        .boxed()
}

pub(super) fn upstream_tls() -> BoxedStrategy<UpstreamTls> {
    (
        option::of(word()),
        option::of(certificate()),
        option::of(validation()),
        alpn(),
        versions(),
    )
        .prop_map(
            |(sni, certificate, validation, alpn, (min_version, max_version))| UpstreamTls {
                sni,
                certificate,
                validation,
                alpn,
                min_version,
                max_version,
            },
        )
        .boxed()
}
