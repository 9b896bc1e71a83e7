//! Secrets: certificates with their keys, and trusted roots, as they are handed to a proxy by name.
//!
//! Not a part of a [`Bundle`](crate::bundle::Bundle): configuration names secrets and can be shown to anybody, a secret cannot.
//! Invariant: what is inline never appears in `Debug` output.

use std::{fmt, path::PathBuf};

use crate::SecretName;

/// A secret under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What configuration asks for it by.
    pub name: SecretName,
    /// What it is.
    pub content: SecretContent,
}

/// What a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretContent {
    /// A certificate to show.
    Certificate {
        /// PEM, leaf first.
        chain: Material,
        /// PEM: PKCS #8, SEC1 or PKCS #1.
        key: Material,
    },
    /// Roots to trust: PEM.
    Trust(Material),
}

/// PEM text, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// In place.
    Inline(Vec<u8>),
    /// In a file of the proxy's own system.
    File(PathBuf),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
