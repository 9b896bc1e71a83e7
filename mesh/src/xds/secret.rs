//! Secrets as SDS carries them.
//!
//! Apart from [`Resource`](super::Resource), which may be shown, dumped and compared: a secret is only handed on.

use super::{Any, DecodeError, ResourceType, decode, encode, pb, resource::unpack};
use crate::secret::Secret;

/// Decodes a secret.
///
/// # Errors
/// `any` is something else or too large, or its content is not supported. Nothing of the content is quoted.
pub fn decode(any: &Any) -> Result<Secret, DecodeError> {
    decode::secret(&unpack::<pb::tls::Secret>(ResourceType::Secret, any)?)
}

/// Encodes a secret; equal secrets give equal bytes.
pub fn encode(secret: &Secret) -> Any {
    encode::any(&encode::secret(secret))
}
