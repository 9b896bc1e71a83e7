//! Collects what is to be said about one object.

use super::{object::Object, path::FieldPath};
use crate::diag::{Code, Diagnostic, Severity};

/// Diagnostics about one object.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    object: &'a Object,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(object: &'a Object) -> Self {
        Self {
            object,
            diagnostics: Vec::new(),
        }
    }

    pub(crate) fn object(&self) -> &'a Object {
        self.object
    }

    /// Istio would refuse the object.
    pub(crate) fn invalid(&mut self, path: &FieldPath<'_>, message: impl Into<String>, advice: &str) {
        self.error(Code::Invalid, path, message, advice);
    }

    /// Istio would warn about the object.
    pub(crate) fn questionable(&mut self, path: &FieldPath<'_>, message: impl Into<String>, advice: &str) {
        self.warning(Code::Questionable, path, message, advice);
    }

    pub(crate) fn error(&mut self, code: Code, path: &FieldPath<'_>, message: impl Into<String>, advice: &str) {
        self.push(Severity::Error, code, path, message.into(), advice);
    }

    pub(crate) fn warning(&mut self, code: Code, path: &FieldPath<'_>, message: impl Into<String>, advice: &str) {
        self.push(Severity::Warning, code, path, message.into(), advice);
    }

    /// In order, and worth knowing.
    pub(crate) fn note(&mut self, code: Code, path: &FieldPath<'_>, message: impl Into<String>, advice: &str) {
        self.push(Severity::Info, code, path, message.into(), advice);
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    fn push(&mut self, severity: Severity, code: Code, path: &FieldPath<'_>, message: String, advice: &str) {
        self.diagnostics.push(Diagnostic {
            location: Some(self.object.locate(path)),
            object: Some(self.object.id.clone()),
            field: path.to_string(),
            code,
            severity,
            message,
            advice: (!advice.is_empty()).then(|| advice.to_owned()),
        });
    }
}
