//! Raw spec to [`Plan`].

use super::{Plan, StoragePath, Violation};
use crate::pipeline::EventPipelineSpec;

impl Plan {
    /// Checks a spec; all findings at once.
    pub fn parse(_spec: &EventPipelineSpec) -> Result<Self, Vec<Violation>> {
        Err(Vec::new())
    }
}

impl std::str::FromStr for StoragePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Err(text.to_owned())
    }
}
