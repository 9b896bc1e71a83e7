//! What is wrong with a resource that cannot be taken.

use std::fmt;

use super::ResourceType;

/// Why a resource was refused: everything that was found, up to a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// Its type; `None` if that was unknown or it is not an xDS resource.
    pub resource_type: Option<ResourceType>,
    /// Its name, empty if it had none.
    pub name: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One field that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, in proto terms: `clusters[reports].lb_policy`.
    pub path: String,
    /// What was there.
    pub value: String,
    /// What would be taken, or how to say it otherwise.
    pub accepted: String,
}

/// Longest value that is repeated in a message.
const MAX_VALUE: usize = 256;

impl Problem {
    pub(crate) fn new(path: String, value: &str, accepted: String) -> Self {
        let mut value: String = value.chars().take(MAX_VALUE + 1).collect();
        if value.chars().count() > MAX_VALUE {
            value = value.chars().take(MAX_VALUE).chain("…".chars()).collect();
        }
        Self { path, value, accepted }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.value, self.accepted)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
