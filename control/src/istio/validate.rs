//! Rules that Istio's admission applies to one object by itself.

use super::object::Object;
use crate::diag::Diagnostic;

/// Checks an object by itself.
pub(super) fn object(_object: &Object) -> Vec<Diagnostic> {
    Vec::new()
}
