//! What the sinks hold, asked as a start asks them: under the plan of the newest epoch, by their own markers, without writing.

use bytes::Bytes;
use evp_api::EventPipelineSpec;
use evp_core::check::{CheckedPlan, check};
use evp_core::position::{Epoch, Term};
use evp_core::protocol::head::{Body, Intent};

use super::read::Reader;
use crate::checkpointer::CrashPoints;
use crate::cli::Fault;
use crate::cli::place::Place;
use crate::clock::SystemClock;
use crate::ids::Ids;
use crate::job::{self, OpenError, Parts, Sample, SinkOpener, Topics};
use crate::settings::MemoryBudget;
use crate::sink::SinkError;
use crate::source::script::Scripts;
use crate::store::Location;

/// What a sink answers.
enum Held {
    Newest(Option<Epoch>),
    /// Its target is not one that the plan can write.
    Refused(String),
}

/// Asks every sink of the head; gives how many. `plan`: the bytes of the newest epoch's plan; without it, and unless the
/// manifest is that plan, nobody knows where the sinks are.
pub(super) async fn ask(
    reader: &mut Reader,
    place: &Place,
    checkpoint: &Location,
    plan: Option<Bytes>,
) -> Result<usize, Fault> {
    let Some(body) = reader.audit().head().map(|head| head.body.clone()) else {
        return Ok(0);
    };
    let decided_under = match plan {
        _ if place.checked.digest == body.plan => Some(place.checked.clone()),
        Some(bytes) => serde_json::from_slice::<EventPipelineSpec>(&bytes)
            .ok()
            .and_then(|spec| check(&spec).ok()),
        None => None,
    };
    let Some(checked) = decided_under else {
        return Ok(0);
    };
    reader.audit().targets(&job::targets(&checked));
    let questions = reader.audit().questions();
    for (name, intent) in &questions {
        let alone = Body {
            sinks: body
                .sinks
                .iter()
                .filter(|(n, _)| *n == name)
                .map(owned)
                .collect(),
            ..body.clone()
        };
        match one(place, checkpoint, (&checked, &alone), intent).await? {
            Held::Refused(what) => reader.audit().refused(name, &what),
            Held::Newest(held) => {
                // More than the head knows: the pipeline may have gone on.
                if held > Some(body.epoch) {
                    reader.look_again().await?;
                }
                reader.audit().sink(name, intent, held);
            }
        }
    }
    Ok(questions.len())
}

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// Opens the only sink of a body and asks it.
async fn one(
    place: &Place,
    checkpoint: &Location,
    (checked, body): (&CheckedPlan, &Body),
    intent: &Intent,
) -> Result<Held, Fault> {
    let parts = Parts {
        storage: place.storage.clone(),
        secrets: place.secrets.clone(),
        clock: SystemClock::shared(),
        topics: place.topics.clone().map_or(Topics::Asked, Topics::Folder),
        budget: MemoryBudget::of(MemoryBudget::DEFAULT_LIMIT),
        sample: Sample::default(),
        scripts: Scripts::default(),
        crash: CrashPoints::none(),
    };
    let opener = SinkOpener {
        checked,
        parts: &parts,
        checkpoint,
        body,
        nonce: &Ids::os().nonce(),
        term: Term(0),
        keeps_rejects: false,
    };
    let mut sinks = match opener.open().await {
        Ok(sinks) => sinks,
        Err(OpenError::Store(error)) => return Err(error.into()),
        Err(OpenError::Sink(error)) => return refused(error),
    };
    let Some(sink) = sinks.values_mut().next() else {
        let what = "the plan of the newest epoch does not have it".to_owned();
        return Ok(Held::Refused(what));
    };
    let probed = sink.probe(intent).await;
    probed.map(Held::Newest).or_else(refused)
}

fn refused(error: SinkError) -> Result<Held, Fault> {
    match error {
        SinkError::Unavailable { message, .. } => Err(Fault::Environment(message)),
        SinkError::Stop { .. } => Ok(Held::Refused(error.to_string())),
    }
}
