//! Diagnostics: what is wrong with configuration, where, and how to put it right.
//!
//! Invariant: every diagnostic has a code from [`Code`], which is Istio's where `istioctl analyze` has one.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

use crate::istio::ObjectId;

/// One thing to be said about the configuration. Ordered by place, so that a report does not depend on how it was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// Where, if it is in a file.
    pub location: Option<Location>,
    /// The object, if it is known.
    pub object: Option<ObjectId>,
    /// The field, from the object's root (`spec.servers[0].tls.mode`); empty for the object as a whole.
    pub field: String,
    /// What kind of thing.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with the value seen.
    pub message: String,
    /// What to do.
    pub advice: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The file, as it was found below the directory that was given.
    #[serde(serialize_with = "text")]
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// The object is not applied.
    Error,
    /// The object is applied and probably does not do what it should.
    Warning,
    /// Worth knowing.
    Info,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What kind of thing a diagnostic is about. `IST…` is Istio's numbering, `SP…` is ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// The code as it is printed.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// Something that is referred to does not exist.
    ReferenceNotFound = "IST0101",
    /// A field is unknown, missing or has a value that Istio refuses.
    Invalid = "IST0106",
    /// Two VirtualServices route the same host for sidecars.
    ConflictingMeshHosts = "IST0109",
    /// Two Sidecars of a namespace select the same workloads.
    ConflictingSidecarSelectors = "IST0110",
    /// Two Sidecars of a namespace have no selector.
    MultipleDefaultSidecars = "IST0111",
    /// A destination has several ports and the route does not say which.
    PortRequired = "IST0112",
    /// A selector matches no workload that is known.
    NoMatchingWorkload = "IST0127",
    /// A route stands behind one that takes every request.
    UnreachableRoute = "IST0130",
    /// A condition is there twice.
    IneffectiveMatch = "IST0131",
    /// A VirtualService is bound to a Gateway that does not serve its host.
    HostNotInGateway = "IST0132",
    /// A field has a value that Istio warns about.
    Questionable = "IST0133",
    /// A TCP service without addresses takes every connection to its port.
    AddressesRequired = "IST0134",
    /// Two Gateways want the same port for the same hosts.
    ConflictingGateways = "IST0145",
    /// No Service of the gateway has the port.
    GatewayPortNotOnService = "IST0162",
    /// A subset selects no endpoint.
    SubsetSelectsNothing = "IST0173",
    /// A DestinationRule is for a host that does not exist.
    UnknownDestinationRuleHost = "IST0174",
    /// Istio has it, Sallyport does not.
    NotImplemented = "SP0001",
    /// A file is not YAML, or not text.
    Malformed = "SP0002",
    /// An object is defined twice.
    Duplicate = "SP0003",
    /// A file or directory cannot be read, or there is more of it than we accept.
    Unreadable = "SP0004",
    /// An ALLOW policy without rules denies everything.
    DeniesEverything = "SP0005",
    /// A server's certificate is not checked at all.
    VerificationOff = "SP0006",
    /// A server passes TLS through, and nothing says where to.
    NothingToPassThrough = "SP0008",
    /// What a client encrypts itself is wrapped in TLS once more.
    DoubleTls = "SP0009",
    /// A kind or version that is not known.
    UnknownKind = "SP0007",
    /// A Gateway's host may be routed by any namespace.
    OpenToAnyNamespace = "SP0010",
    /// A default is stricter here than in Istio.
    SaferThanIstio = "SP0011",
    /// A rule names files of a gateway that is somebody else's.
    ForeignCredentials = "SP0012",
}

impl Diagnostic {
    /// Whether the object is kept from being applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} [{}]", self.severity, self.code.as_str())?;
        match (&self.object, &self.location) {
            (Some(object), Some(location)) => write!(f, " ({object} {location})")?,
            (Some(object), None) => write!(f, " ({object})")?,
            (None, Some(location)) => write!(f, " ({location})")?,
            (None, None) => {}
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)?;
        self.advice
            .as_ref()
            .map_or(Ok(()), |advice| write!(f, " — fix: {advice}"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
