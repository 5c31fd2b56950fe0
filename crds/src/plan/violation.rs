//! The catalogue of findings. A violation names the field it speaks of; files and carets are added by who has the text.

use std::fmt;

use serde::Serialize;

/// `EVP` + four digits: 1xxx the file, 2xxx the manifest, 3xxx a running pipeline.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Code {}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Which rule.
    pub code: Code,
    /// The field, such as `spec.steps[2].aggregate.groupBy[0]`.
    pub path: String,
    /// Place inside an SQL text: byte range of the text at `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// What is known instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// One fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
