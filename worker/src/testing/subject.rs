//! The pipeline that is tested: its manifest, with every place in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evp_api::EventPipelineSpec;
use evp_api::plan::{Mode, NodeName, SinkKind, SinkPlan};
use evp_core::check::{CheckedPlan, check};

use crate::cli::Fault;
use crate::cli::place::{Place, PlaceArgs};
use crate::manifest::Manifest;
use crate::store::{Memory, Storage};

/// What stands for the folder of a local run. Nothing is ever written there: see [`Subject::storage`].
const NOWHERE: &str = "/evp-test";

/// An epoch is open no longer, whatever the manifest says: what ends it is a promise or the end of a script, and a clock that jumps
/// from poll to poll takes its time too.
const LONGEST_EPOCH: Duration = Duration::from_secs(1);

/// A pipeline, mapped to here as `evp run --local` maps it, so that it needs no broker, bucket or database.
#[derive(Clone)]
pub struct Subject {
    /// Its name.
    pub name: String,
    pub(super) spec: EventPipelineSpec,
    checked: Arc<CheckedPlan>,
    storage: Storage,
    /// Sinks whose rows a database would keep by key, and here does not.
    pub(super) keyed: BTreeMap<NodeName, Keyed>,
}

/// What a table with keys makes of rows that are only added here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Keyed {
    pub(super) keys: Vec<String>,
    /// The last row of a key stays; else the first.
    pub(super) last: bool,
}

impl Subject {
    /// Checks a manifest and maps its places.
    pub fn of(manifest: &Manifest, file: &Path) -> Result<Self, Fault> {
        let args = PlaceArgs {
            bind: Vec::new(),
            local: Some(PathBuf::from(NOWHERE)),
            secrets: PathBuf::from(NOWHERE),
        };
        let Place {
            name,
            spec,
            mut checked,
            storage,
            ..
        } = Place::of(manifest, file, &args, false)?;
        let interval = &mut checked.plan.checkpoint.interval;
        *interval = LONGEST_EPOCH.min(*interval);
        // It was accepted just now.
        let written = check(&manifest.spec).map(|checked| checked.plan.sinks);
        let keyed = keyed(&written.unwrap_or_default(), &checked.plan.sinks);
        Ok(Self {
            name,
            spec,
            checked: Arc::new(checked),
            storage,
            keyed,
        })
    }

    /// What the manifest means here.
    pub fn checked(&self) -> &Arc<CheckedPlan> {
        &self.checked
    }

    /// Its places, empty, in a memory of their own.
    pub(super) fn storage(&self) -> Storage {
        self.storage.clone().in_memory(Memory::default())
    }

    /// The folder that stands for the topics of its sinks.
    pub(super) fn topics() -> PathBuf {
        Path::new(NOWHERE).join("topics")
    }

    pub(super) fn sink(&self, name: &NodeName) -> Option<&SinkPlan> {
        self.checked.plan.sinks.iter().find(|s| &s.name == name)
    }
}

fn keyed(written: &[SinkPlan], here: &[SinkPlan]) -> BTreeMap<NodeName, Keyed> {
    let lost = |(written, here): (&SinkPlan, &SinkPlan)| {
        let of_database = matches!(written.kind, SinkKind::Postgres(_));
        (of_database && here.keys.is_empty() && !written.keys.is_empty()).then(|| {
            let keyed = Keyed {
                keys: written.keys.clone(),
                last: written.mode == Mode::Update,
            };
            (written.name.clone(), keyed)
        })
    };
    written.iter().zip(here).filter_map(lost).collect()
}
