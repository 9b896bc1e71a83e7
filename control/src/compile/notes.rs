//! What compiling has to say about objects.

use crate::{
    diag::{Code, Diagnostic},
    istio::{FieldPath, Object, Report},
};

/// Diagnostics, collected.
#[derive(Debug)]
pub(super) struct Notes(Vec<Diagnostic>);

/// Something wrong inside one object, before it is known where the object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) advice: &'static str,
}

impl Problem {
    /// Istio has it, we do not.
    pub(super) fn not_implemented(message: impl Into<String>, advice: &'static str) -> Self {
        Self {
            code: Code::NotImplemented,
            message: message.into(),
            advice,
        }
    }

    /// It cannot be meant.
    pub(super) fn invalid(message: impl Into<String>, advice: &'static str) -> Self {
        Self {
            code: Code::Invalid,
            message: message.into(),
            advice,
        }
    }
}

impl Notes {
    /// With what is known before compiling begins.
    pub(super) fn new(known: &[Diagnostic]) -> Self {
        Self(known.to_vec())
    }

    /// The object, or the part of it the field names, is not applied.
    pub(super) fn error(
        &mut self,
        object: &Object,
        field: &FieldPath<'_>,
        code: Code,
        message: impl Into<String>,
        advice: &str,
    ) {
        self.about(object, |report| report.error(code, field, message, advice));
    }

    /// The object is applied, and probably does not do what it should.
    pub(super) fn warning(
        &mut self,
        object: &Object,
        field: &FieldPath<'_>,
        code: Code,
        message: impl Into<String>,
        advice: &str,
    ) {
        self.about(object, |report| report.warning(code, field, message, advice));
    }

    /// A part of an object is not applied.
    pub(super) fn problem(&mut self, object: &Object, field: &FieldPath<'_>, problem: Problem) {
        self.error(object, field, problem.code, problem.message, problem.advice);
    }

    fn about(&mut self, object: &Object, say: impl FnOnce(&mut Report<'_>)) {
        let mut report = Report::new(object);
        say(&mut report);
        self.0.extend(report.into_diagnostics());
    }

    /// Everything, in order of place, each once.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut all = self.0;
        all.sort();
        all.dedup();
        all
    }
}
