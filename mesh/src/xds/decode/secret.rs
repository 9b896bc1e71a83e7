//! `extensions.transport_sockets.tls.v3.Secret`.

use crate::{
    SecretName,
    secret::{Secret, SecretContent},
    xds::{
        decode::{common, tls},
        pb::tls::{self as proto, secret::Type},
        scope::{Decoded, Scope},
        support::messages,
    },
};

messages! {
    /// Messages of secrets.
    MESSAGES:
    proto::Secret {
        supported { name, r#type = "tls_certificate, validation_context with trusted_ca alone" }
    }
}

/// A secret under its name.
pub(super) fn secret(scope: &Scope<'_>, message: &proto::Secret) -> Decoded<Secret> {
    scope.check(message);
    let name = scope.field("name").parse(&message.name, SecretName::parse);
    let content = match scope.required("type", &message.r#type)? {
        Type::TlsCertificate(certificate) => tls_certificate(&scope.field("tls_certificate"), certificate)?,
        Type::ValidationContext(context) => trust(&scope.field("validation_context"), context)?,
        Type::SessionTicketKeys(_) | Type::GenericSecret(_) => {
            return Err(scope.refuse("another kind of secret", "tls_certificate or validation_context"));
        }
    };
    Ok(Secret { name: name?, content })
}

fn tls_certificate(scope: &Scope<'_>, message: &proto::TlsCertificate) -> Decoded<SecretContent> {
    scope.check(message);
    let chain = scope.required("certificate_chain", &message.certificate_chain)?;
    let key = scope.required("private_key", &message.private_key)?;
    Ok(SecretContent::Certificate {
        chain: common::material(&scope.field("certificate_chain"), chain)?,
        key: common::material(&scope.field("private_key"), key)?,
    })
}

/// Roots and nothing else: which names a peer may have is for the configuration to say that asks for the secret.
fn trust(scope: &Scope<'_>, message: &proto::CertificateValidationContext) -> Decoded<SecretContent> {
    scope.check(message);
    let roots = scope.required("trusted_ca", &message.trusted_ca)?;
    if message.system_root_certs.is_some() || tls::accepts_untrusted(scope, message)? {
        return Err(scope.refuse("more than trusted_ca", "trusted_ca alone"));
    }
    if !tls::sans(scope, message)?.is_empty() {
        return Err(scope.field("match_typed_subject_alt_names").refuse(
            "set",
            "list names in the default_validation_context of who uses the secret",
        ));
    }
    Ok(SecretContent::Trust(common::material(
        &scope.field("trusted_ca"),
        roots,
    )?))
}
