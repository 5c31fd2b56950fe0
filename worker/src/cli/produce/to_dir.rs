//! `--to dir:PATH`: one file of JSON lines, visible under its name only once it is complete.

use std::fs::{File, create_dir_all, rename};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::ledger::{Ledger, Placed};
use super::{Error, Pace, ProduceArgs};
use crate::generate::{Orders, Settings};

/// Events between two looks at the clock and the signal.
const AT_ONCE: u64 = 1_000;

pub(super) async fn write(
    args: &ProduceArgs,
    settings: Settings,
    mut pace: Pace,
    dir: &Path,
) -> Result<u64, Error> {
    create_dir_all(dir).map_err(Error::file(dir))?;
    let path = dir.join(format!("orders-{}.jsonl", settings.started.0));
    let open = path.with_extension("jsonl.tmp");
    let mut file = BufWriter::new(File::create(&open).map_err(Error::file(&open))?);
    let mut ledger = Ledger::create(args.ledger.as_deref())?;
    let orders = Orders::new(settings);
    let mut sent = 0;
    let mut stop = std::pin::pin!(super::to_kafka::interrupted());
    loop {
        let due = tokio::select! {
            biased;
            () = &mut stop => None,
            due = pace.due(&orders, AT_ONCE) => due,
        };
        let Some(due) = due else { break };
        for index in due {
            let event = orders.event(index);
            let written = file
                .write_all(&event.value)
                .and_then(|()| file.write_all(b"\n"));
            written.map_err(Error::file(&open))?;
            ledger.add(
                &event,
                Placed {
                    partition: 0,
                    offset: sent,
                    timestamp: event.due.0 / 1_000,
                },
            )?;
            sent += 1;
        }
    }
    ledger.flush()?;
    file.flush()
        .and_then(|()| file.get_ref().sync_all())
        .map_err(Error::file(&open))?;
    rename(&open, &path).map_err(Error::file(&path))?;
    Ok(u64::try_from(sent).unwrap_or(0))
}
