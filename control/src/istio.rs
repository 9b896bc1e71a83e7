//! Istio's resources, as they are written: one type per kind, read strictly, each object with its place in a file.
//!
//! Invariants: an object that exists here has passed Istio's own validation and uses nothing that Sallyport does not
//! implement; a field that is unknown or not implemented is a [`Diagnostic`](crate::diag::Diagnostic), never silence. What
//! objects mean together is not decided here; see [`analyze`](crate::analyze) for references between them.

pub mod authorization_policy;
mod decode;
pub mod destination_rule;
pub mod gateway;
mod kinds;
pub mod kubernetes;
mod load;
pub mod metadata;
mod object;
mod path;
pub mod peer_authentication;
mod read;
mod report;
pub mod scalar;
pub mod scope;
pub mod service_entry;
mod settings;
pub mod sidecar;
mod support;
mod validate;
pub mod virtual_service;
mod yaml;

pub(crate) use load::stamp;
pub use load::{Loaded, Reader, Skipped, load};
pub use metadata::{Metadata, ObjectId};
pub use object::{Kind, Object, Objects, Spec};
pub use path::FieldPath;
pub(crate) use report::Report;
pub use settings::SettingsError;
pub(crate) use settings::settings;
