//! State on its way into files and back: written beside an epoch before it is decided, read before a lane goes on.

use evp_api::plan::NodeName;
use evp_api::reason;
use evp_core::dataflow::{Closed, Dataflow, Loaded, StateReader};
use evp_core::position::Epoch;
use evp_core::protocol::head::{Body, StateFile, StepState};
use futures::{StreamExt, TryStreamExt, stream};

use super::Halt;
use crate::checkpointer::{Checkpointer, StateFiles};
use crate::tasks;

/// Files under way at the same time; each holds about 2 MiB, and as much again while it is encoded or read.
const IN_FLIGHT: usize = 4;

/// Writes what the epoch changes, and names it in its body. What did not change stays in the files it is in.
pub(super) async fn store(
    dataflow: &Dataflow,
    files: &StateFiles,
    (body, closed): (&mut Body, &Closed),
) -> Result<(), Halt> {
    let steps = dataflow.fingerprints();
    // A step that comes back later must not go on from windows that it did not see all rows of.
    // Tables of sources are not of steps: they stay, as positions do.
    let positions = &body.positions;
    let stays = |node: &NodeName| steps.contains_key(node) || positions.contains_key(node);
    body.state.retain(|node, _| stays(node));
    for (step, fingerprint) in steps {
        let state = body.state.entry(step.clone());
        let state = state.or_insert_with(|| StepState::new(fingerprint));
        let Some(change) = closed.state.get(&step) else {
            continue;
        };
        let epoch = body.epoch;
        let puts = stream::iter(dataflow.state_writes(closed, &step, state)).map(|write| async {
            let write = write.map_err(|e| Halt::failed_epoch(e.strip_backtrace()))?;
            Ok::<_, Halt>((write.at, files.put(epoch, write.bytes.into()).await?))
        });
        let written: Vec<_> = puts.buffered(IN_FLIGHT).try_collect().await?;
        if !mistaken!(StateFileLeftOut) {
            change.record(state, epoch, written);
        }
    }
    Ok(())
}

/// Reads the state that the head names; that it fits the plan was judged before the lane was taken.
pub(super) async fn restore(
    dataflow: &mut Dataflow,
    checkpointer: &Checkpointer,
) -> Result<(), Halt> {
    if mistaken!(StateNotRestored) {
        return Ok(());
    }
    for (step, state) in &checkpointer.body().state {
        let Some(reader) = dataflow.state_reader(step) else {
            continue;
        };
        let files = state
            .runs()
            .flat_map(|run| run.files.iter().map(|file| (run.epoch, file)));
        let loads = stream::iter(files).map(|file| load(checkpointer, reader.clone(), file));
        let mut loads = std::pin::pin!(loads.buffered(IN_FLIGHT));
        while let Some((epoch, loaded)) = loads.try_next().await? {
            dataflow.restore_state(step, loaded, epoch)?;
        }
        tell(step, state);
    }
    Ok(())
}

fn tell(step: &NodeName, state: &StepState) {
    let (files, bytes) = (
        state.files().count(),
        state
            .runs()
            .map(evp_core::protocol::head::Run::bytes)
            .sum::<u64>(),
    );
    tracing::info!(%step, files, bytes, "state is restored");
}

/// Gets a file, and reads it where it holds up nobody.
async fn load(
    checkpointer: &Checkpointer,
    reader: StateReader,
    (epoch, file): (Epoch, &StateFile),
) -> Result<(Epoch, Loaded), Halt> {
    let bytes = checkpointer.state_file(file).await?;
    let unreadable = |e: &dyn std::fmt::Display| {
        let what = format!("state file {}: {e}", file.name);
        Halt::person(reason::CHECKPOINT_DAMAGED, what)
    };
    let read = tasks::blocking(move || reader.read(&bytes)).await;
    let loaded = read.map_err(|e| unreadable(&e))?;
    Ok((epoch, loaded.map_err(|e| unreadable(&e))?))
}
