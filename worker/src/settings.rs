//! Flags, environment and the arithmetic of the memory budget: plain data.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::source::Budget;

/// Flags of `evp worker`, set by the operator.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// The pipeline as the operator wrote it.
    #[arg(long, value_name = "FILE")]
    pub pipeline: PathBuf,
    /// Folder of Secrets: `<name>/<key>`.
    #[arg(long, value_name = "DIR", default_value = "/etc/evp/secrets")]
    pub secrets: PathBuf,
    /// The lane to own.
    #[arg(long, default_value = "0", value_parser = ["0"])]
    pub lane: String,
    /// Folder for scratch files; emptied by nobody, never the truth.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/evp")]
    pub scratch: PathBuf,
    /// Newest epoch that was ever seen of this pipeline: a checkpoint below it was rolled back.
    #[arg(long, value_name = "EPOCH")]
    pub seen_epoch: Option<u64>,
    /// Where the endpoints listen.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub listen: SocketAddr,
    /// Memory the worker may use; absent: 512 MiB.
    #[arg(long, env = "EVP_MEMORY_LIMIT_BYTES", value_name = "BYTES")]
    pub memory: Option<u64>,
    /// Name of the pod, for people.
    #[arg(long, env = "POD_NAME", default_value = "local")]
    pub pod_name: String,
    /// UID of the pod: the owner of the lane.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: Option<String>,
    /// For crash tests: abort at a named step of the protocol, such as `head.swap:before` or `head.swap:after:3`.
    #[arg(long, env = "EVP_CRASH_AT", hide = true)]
    pub crash_at: Option<String>,
    /// For crash tests: abort when a record is about to be computed, such as `orders/0/17` (source, split, position).
    #[arg(long, env = "EVP_CRASH_ON", hide = true)]
    pub crash_on: Option<String>,
}

const MIB: u64 = 1 << 20;

/// How the worker's memory is divided. Every queue and buffer takes its bound from here.
///
/// Of a limit L: sources' fetch queues L/16 (8-64 MiB), batches in flight at most 3 × 4 MiB raw and about as much decoded,
/// Parquet writers L/8, state L/4; four files of state under way, 2 MiB each and about as much again while they are encoded, and 32
/// bytes a row of the bucket that is written. The rest is the binary, threads, TLS and the allocator's slack.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    /// Bytes librdkafka may hold fetched, over all sources.
    pub fetch_queue: usize,
    /// Bounds of one batch.
    pub batch: Budget,
    /// Bytes of aggregation state.
    pub state: usize,
}

impl MemoryBudget {
    /// Limit where none is given.
    pub const DEFAULT_LIMIT: u64 = 512 * MIB;

    /// Divides a limit.
    pub fn of(limit: u64) -> Self {
        Self {
            fetch_queue: usize::try_from((limit / 16).clamp(8 * MIB, 64 * MIB))
                .unwrap_or(usize::MAX),
            batch: Budget {
                records: 8192,
                bytes: 4 << 20,
            },
            state: usize::try_from(limit / 4).unwrap_or(usize::MAX),
        }
    }
}
