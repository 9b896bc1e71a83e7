//! `extensions.transport_sockets.tls.v3.Secret`.

use crate::{
    secret::{Material, Secret, SecretContent},
    xds::pb::{
        core::{DataSource, data_source::Specifier},
        tls::{self, secret::Type},
    },
};

/// A secret under its name.
pub fn secret(value: &Secret) -> tls::Secret {
    let content = match &value.content {
        SecretContent::Certificate { chain, key } => Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: Some(material(chain)),
            private_key: Some(material(key)),
            ..Default::default()
        }),
        SecretContent::Trust(roots) => Type::ValidationContext(tls::CertificateValidationContext {
            trusted_ca: Some(material(roots)),
            ..Default::default()
        }),
    };
    tls::Secret {
        name: value.name.to_string(),
        r#type: Some(content),
    }
}

fn material(value: &Material) -> DataSource {
    let specifier = match value {
        Material::Inline(bytes) => Specifier::InlineBytes(bytes.clone()),
        Material::File(path) => Specifier::Filename(path.to_string_lossy().into_owned()),
    };
    DataSource {
        specifier: Some(specifier),
        ..Default::default()
    }
}
