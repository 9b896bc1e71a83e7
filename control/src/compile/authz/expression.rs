//! Conditions joined the way a rule joins them: the values of a field by or, fields by and, `not…` fields negated.

use mesh::authz::{Permission, Principal};

/// What permissions and principals have in common.
pub(super) trait Expression: Sized {
    /// Everything.
    fn any() -> Self;
    /// All of these.
    fn all(of: Vec<Self>) -> Self;
    /// One of these.
    fn one(of: Vec<Self>) -> Self;
    /// Not this.
    fn not(this: Self) -> Self;
}

macro_rules! expressions {
    ($($name:ident),+) => {$(
        impl Expression for $name {
            fn any() -> Self {
                Self::Any
            }

            fn all(of: Vec<Self>) -> Self {
                Self::And(of)
            }

            fn one(of: Vec<Self>) -> Self {
                Self::Or(of)
            }

            fn not(this: Self) -> Self {
                Self::Not(Box::new(this))
            }
        }
    )+};
}

expressions!(Permission, Principal);

/// Why a condition cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Only an HTTP request has it, and this is a connection.
    HttpOnly,
    /// Its value is not what it should be.
    Malformed(String),
}

/// Conditions of which all must hold.
#[derive(Debug)]
pub(super) struct All<E> {
    terms: Vec<E>,
    unusable: Vec<Unusable>,
}

impl<E: Expression> All<E> {
    pub(super) fn new() -> Self {
        Self {
            terms: Vec::new(),
            unusable: Vec::new(),
        }
    }

    /// Adds a field and its `not` twin. An empty list asks nothing.
    pub(super) fn field<V>(&mut self, values: &[V], not_values: &[V], condition: impl Fn(&V) -> Result<E, Unusable>) {
        for (values, negate) in [(values, false), (not_values, true)] {
            if values.is_empty() {
                continue;
            }
            match values.iter().map(&condition).collect() {
                Ok(any) if negate => self.terms.push(E::not(E::one(any))),
                Ok(any) => self.terms.push(E::one(any)),
                Err(reason) => self.unusable.push(reason),
            }
        }
    }

    /// The whole, and why conditions are missing from it.
    pub(super) fn finish(self) -> (E, Vec<Unusable>) {
        let whole = if self.terms.is_empty() {
            E::any()
        } else {
            E::all(self.terms)
        };
        (whole, self.unusable)
    }
}
