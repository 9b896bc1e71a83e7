//! One document that is not a Kubernetes object, such as a `MeshConfig`, read as strictly as objects are.

use std::fmt;

use serde::de::DeserializeOwned;

use super::{
    decode::{Finding, decode},
    path::FieldPath,
    yaml::{Node, Position, documents},
};

/// Everything that is wrong with a document, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError(Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Reads a text that holds one document; an empty text is an empty document.
///
/// # Errors
/// Every field that is unknown, misspelt or of the wrong form, by line.
pub(crate) fn settings<T: DeserializeOwned>(text: &str) -> Result<T, SettingsError> {
    let mut documents = documents(text);
    let node = match (documents.len(), documents.pop()) {
        (0, _) => Node::empty(Position { line: 1, column: 1 }).into(),
        (1, Some(Ok(node))) => node,
        (1, Some(Err(malformed))) => return Err(refused(malformed.position, &malformed.reason, None)),
        _ => {
            return Err(SettingsError(vec![
                "more than one document: keep the first and drop the `---`".to_owned(),
            ]));
        }
    };
    let (value, findings) = decode(&node, FieldPath::ROOT);
    match (value, findings.is_empty()) {
        (Some(value), true) => Ok(value),
        _ => Err(SettingsError(findings.iter().map(line).collect())),
    }
}

fn refused(position: Position, message: &str, advice: Option<&str>) -> SettingsError {
    SettingsError(vec![described(position, message, advice)])
}

fn line(finding: &Finding) -> String {
    let message = match finding.field.as_str() {
        "" => finding.message.clone(),
        field => format!("{field}: {}", finding.message),
    };
    described(finding.position, &message, finding.advice.as_deref())
}

fn described(position: Position, message: &str, advice: Option<&str>) -> String {
    let advice = advice.map(|advice| format!(" — fix: {advice}")).unwrap_or_default();
    format!("line {}: {message}{advice}", position.line)
}
