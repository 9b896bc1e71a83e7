//! Names of configured objects: opaque, cheap to clone, never interchangeable.

use std::{fmt, sync::Arc};

/// A name was empty or longer than [`MAX_NAME`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name must have 1 to {MAX_NAME} bytes, this one has {0}")]
pub struct NameError(usize);

/// Longest name we accept. Istio's longest cluster names are about 400 bytes.
pub const MAX_NAME: usize = 1024;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts any text of 1 to [`MAX_NAME`] bytes.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match text.len() {
                    1..=MAX_NAME => Ok(Self(text.into())),
                    len => Err(NameError(len)),
                }
            }

            /// The name as it is written in configuration and logs.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// A listener, as istiod names it: `0.0.0.0_8080`.
    ListenerName;
    /// A route configuration: `https.80.https.egress-gateway.istio-egress`.
    RouteConfigName;
    /// A cluster: `outbound|443|example-com-originate-TLS|example.com`.
    ClusterName;
    /// An authorization policy's rule: `ns[istio-egress]-policy[egress-all-443]-rule[0]`.
    PolicyName;
    /// A secret: `default`, `ROOTCA`, `file-root:system`.
    SecretName;
}
