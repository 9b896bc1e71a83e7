//! Why a TLS handshake with an upstream failed, in the words that Envoy's log has for it.
//!
//! Operators search for these words, so that they are OpenSSL's where it has some; where the reason is only ours, ours follow the
//! same prefix. Everything that comes from the peer has been made printable by whoever read it.

use std::io;

use certs::PeerError;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// OpenSSL's numbers of errors of TLS, to which the reason is added; reasons of alerts begin at [`ALERT`].
const SSL: u32 = 0x1000_0000;
const ALERT: u32 = 1000;
const CERTIFICATE_VERIFY_FAILED: u32 = SSL + 125;
const WRONG_VERSION_NUMBER: u32 = SSL + 247;
/// Its numbers of the operating system's errors, to which theirs is added.
const SYSTEM: u32 = 0x0200_0000;

/// `%UPSTREAM_TRANSPORT_FAILURE_REASON%` of a handshake that failed with `error`.
pub(super) fn reason(error: &io::Error) -> String {
    match (certs::tls_error(error), error.raw_os_error().map(u32::try_from)) {
        (Some(error), _) => of_tls(error),
        (None, Some(Ok(number))) => framed(&format!(
            "{}:system library:OPENSSL_internal:{}",
            SYSTEM.saturating_add(number),
            words(error)
        )),
        (None, _) => framed(&error.to_string()),
    }
}

/// The same for an error of the TLS library.
pub(super) fn of_tls(error: &Error) -> String {
    framed(&match error {
        Error::InvalidCertificate(why) => format!(
            "{}:verify cert failed: {}",
            routine(CERTIFICATE_VERIFY_FAILED, "CERTIFICATE_VERIFY_FAILED"),
            unverified(why, error)
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            routine(WRONG_VERSION_NUMBER, "WRONG_VERSION_NUMBER")
        }
        Error::AlertReceived(alert) => {
            let number = SSL + ALERT + u32::from(u8::from(*alert));
            alert_name(*alert).map_or_else(|| error.to_string(), |name| routine(number, name))
        }
        _ => certs::tls_failure_reason(error),
    })
}

fn framed(reason: &str) -> String {
    format!("TLS_error:|{reason}:TLS_error_end")
}

fn routine(number: u32, name: &str) -> String {
    format!("{number}:SSL routines:OPENSSL_internal:{name}")
}

/// The operating system's words without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// What of a certificate is not as it must be. OpenSSL adds the depth at which it noticed, which our library does not tell.
fn unverified(why: &CertificateError, error: &Error) -> String {
    let chain = |problem| format!("X509_verify_cert: certificate verification error: {problem}");
    match (why, PeerError::of(error)) {
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => chain("certificate has expired"),
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            chain("certificate is not yet valid")
        }
        (CertificateError::UnknownIssuer, _) => chain("unable to get local issuer certificate"),
        (_, Some(PeerError::Name { presented, .. })) => {
            format!("SAN matcher, certificate SANs are [{}]", presented.join(", "))
        }
        (_, Some(PeerError::Requested { requested, presented })) => format!(
            "verify SAN list, expected SANs: [{requested}], certificate SANs: [{}]",
            presented.join(", ")
        ),
        _ => certs::tls_failure_reason(error),
    }
}

/// OpenSSL's name of an alert that was received.
fn alert_name(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        AlertDescription::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        AlertDescription::RecordOverflow => "TLSV1_ALERT_RECORD_OVERFLOW",
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::UserCanceled => "TLSV1_ALERT_USER_CANCELLED",
        AlertDescription::UnrecognisedName => "TLSV1_UNRECOGNIZED_NAME",
        AlertDescription::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_as_openssl_names_them() {
        let check = |error: io::Error, expected: &str| {
            assert_eq!(reason(&error), format!("TLS_error:|{expected}:TLS_error_end"))
        };
        let tls = |error: Error| io::Error::new(io::ErrorKind::InvalidData, error);
        check(
            tls(Error::AlertReceived(AlertDescription::HandshakeFailure)),
            "268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE",
        );
        check(
            tls(Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            "268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER",
        );
        check(
            tls(CertificateError::Expired.into()),
            "268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
             X509_verify_cert: certificate verification error: certificate has expired",
        );
        check(
            io::Error::from_raw_os_error(104),
            "33554536:system library:OPENSSL_internal:Connection reset by peer",
        );
    }
}
