//! The one cryptography provider. Everything that speaks TLS or checks a certificate is handed this one; the
//! process-wide default of the TLS library is never set and never read.

use std::sync::{Arc, LazyLock};

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
};

/// aws-lc-rs with its default suites, AES-128 before AES-256, and hybrid post-quantum key exchange first.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(cheap_first(aws_lc_rs::default_provider())));
    PROVIDER.clone()
}

/// Puts TLS 1.3's AES-128 first. The many digests of a handshake are SHA-256's with it, for which processors have instructions; those of
/// AES-256 are SHA-384's, for which many have none and which took 7% of a handshake's time.
fn cheap_first(mut provider: CryptoProvider) -> CryptoProvider {
    let cheap = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != cheap);
    provider
}

/// The SHA-256 digest of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().expect("a TLS 1.3 suite").common.hash_provider.hash(bytes);
    hash.as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

/// A positive serial number of 127 random bits: unique, and nothing a peer can predict (RFC 5280, 4.1.2.2).
pub(crate) fn random_serial() -> Result<[u8; 16], rustls::crypto::GetRandomFailed> {
    let mut serial = [0; 16];
    provider().secure_random.fill(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha_256() {
        let hex: String = sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn the_cheapest_suite_is_offered_first_and_none_is_lost() {
        let (ours, theirs) = (provider(), aws_lc_rs::default_provider());
        assert_eq!(ours.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(ours.cipher_suites.len(), theirs.cipher_suites.len());
        assert!(
            theirs
                .cipher_suites
                .iter()
                .all(|suite| ours.cipher_suites.contains(suite))
        );
    }

    #[test]
    fn serials_are_positive_and_differ() {
        let (one, two) = (random_serial().unwrap(), random_serial().unwrap());
        assert_ne!(one, two);
        assert!(one[0] & 0x80 == 0 && one[0] != 0);
    }
}
