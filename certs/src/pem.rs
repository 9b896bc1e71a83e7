//! PEM text (RFC 7468), read and written.

use ::pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{
    CertificateDer,
    pem::{Error, PemObject},
};

/// Every certificate of a text, in order. Other sections and text between sections are skipped, as OpenSSL does.
pub(crate) fn certificates_from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, Error>>()
        .map_err(|error| error.to_string())
}

/// One certificate as PEM text (RFC 7468), ending in a line feed.
pub fn certificate_pem(der: &CertificateDer<'_>) -> String {
    encode_pem("CERTIFICATE", der)
}

/// One section, ending in a line feed.
pub(crate) fn encode_pem(tag: &str, contents: &[u8]) -> String {
    ::pem::encode_config(
        &Pem::new(tag, contents),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}
