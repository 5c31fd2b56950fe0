//! The catalogue of reasons: the one-word causes of conditions, of a worker's [`crate::progress::Halt`] and of events.
//!
//! A name is never used for two things and never changes. What a person should do is in the condition's message; here is
//! what the word means.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $konst:ident = $text:literal;)+) => {
        $($(#[doc = $doc])+ pub const $konst: &str = $text;)+

        /// Every reason with its meaning, in the order of this file.
        pub const ALL: &[(&str, &str)] = &[$(($text, concat!($($doc),+))),+];
    };
}

reasons! {
    // Of a state that is as wanted.
    /// Nothing is amiss; the condition is as it should be.
    AS_EXPECTED = "AsExpected";
    /// The spec was checked, its SQL planned, and its children are applied.
    SPEC_ACCEPTED = "SpecAccepted";
    /// Data is read and epochs are decided under this generation's plan.
    COMMITTING = "Committing";
    /// Every position is at its end and committed.
    CAUGHT_UP = "CaughtUp";
    /// Committed event time is within the objective of now.
    WITHIN_OBJECTIVE = "WithinObjective";

    // On the way.
    /// Not yet judged: the operator has not seen this generation to its end.
    PENDING = "Pending";
    /// Children of an earlier pipeline of the same name are still being deleted.
    OLD_CHILDREN_LEAVING = "OldChildrenLeaving";
    /// The pods are being replaced for this generation.
    ROLLING_OUT = "RollingOut";
    /// The pods are starting.
    WORKERS_STARTING = "WorkersStarting";
    /// The worker is up; it has not yet decided an epoch under this generation's plan.
    FIRST_EPOCH_PENDING = "FirstEpochPending";
    /// `suspend: true`: committed, stopped, scaled to zero, state kept.
    SUSPENDED = "Suspended";

    // Judged by the operator.
    /// The spec has findings; the message holds them. Pods of the last accepted generation keep running.
    SPEC_NOT_ACCEPTED = "SpecNotAccepted";
    /// The change would destroy state. It is held, old pods keep running; raising `resetNonce` lets the changed steps begin anew.
    STATE_INCOMPATIBLE = "StateIncompatible";
    /// An object that the pipeline needs exists and belongs to somebody else.
    NAME_TAKEN = "NameTaken";
    /// The API server refused a child: a quota, an admission policy, a value it does not take.
    CHILD_REFUSED = "ChildRefused";
    /// No progress towards this generation within the deadline.
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded";
    /// Pods cannot be created, scheduled or started, or they exit; the message holds the pod's own error.
    WORKERS_NOT_READY = "WorkersNotReady";
    /// The worker's last report is too old to be believed.
    WORKER_SILENT = "WorkerSilent";
    /// Committed event time is further behind than the objective.
    BEHIND_OBJECTIVE = "BehindObjective";
    /// More records were dead-lettered than the objective allows.
    TOO_MANY_DEAD_LETTERS = "TooManyDeadLetters";
    /// Nothing is known that this could be judged by.
    NOTHING_READ = "NothingRead";

    // Told by the worker.
    /// The worker is opening its checkpoint, sources and sinks.
    STARTING = "Starting";
    /// A Secret, or a key of it, that the spec names is not there.
    SECRET_MISSING = "SecretMissing";
    /// The worker does not accept the pipeline it was handed; it is of another version than the operator.
    PLAN_REFUSED = "PlanRefused";
    /// A source cannot be reached; the worker tries again by itself.
    SOURCE_UNAVAILABLE = "SourceUnavailable";
    /// A source refuses the credentials or the access.
    SOURCE_DENIED = "SourceDenied";
    /// The topic does not exist.
    TOPIC_MISSING = "TopicMissing";
    /// The topic was deleted and created anew: the positions speak of another log.
    TOPIC_REPLACED = "TopicReplaced";
    /// A file is another one than when it was read, and the source says `onChange: Fail`.
    FILE_CHANGED = "FileChanged";
    /// Records were deleted before they were read, and the source says `onDataLoss: Fail`.
    DATA_LOST = "DataLost";
    /// The object store cannot be reached; the worker tries again by itself.
    STORE_UNAVAILABLE = "StoreUnavailable";
    /// The object store refuses the credentials or the access.
    STORE_DENIED = "StoreDenied";
    /// The object store has no true conditional writes; nothing exact can be built on it.
    STORE_UNFIT = "StoreUnfit";
    /// Another resource owns the checkpoint path: give this one a path of its own, or consent with `checkpoint.adoptFrom`.
    CHECKPOINT_OWNED = "CheckpointOwned";
    /// The checkpoint's objects contradict each other.
    CHECKPOINT_DAMAGED = "CheckpointDamaged";
    /// The checkpoint is older than what was already decided: it was restored or rolled back.
    CHECKPOINT_BEHIND = "CheckpointBehind";
    /// A newer version wrote the checkpoint.
    CHECKPOINT_TOO_NEW = "CheckpointTooNew";
    /// The counts of an epoch do not balance; it was not decided.
    LEDGER_UNBALANCED = "LedgerUnbalanced";
    /// A sink holds an epoch that the checkpoint does not know.
    CHECKPOINT_BEHIND_SINK = "CheckpointBehindSink";
    /// A newer pod owns the lane; this one never takes it again.
    FENCED = "Fenced";
    /// A sink cannot be reached or written; decided epochs wait for it.
    SINK_UNAVAILABLE = "SinkUnavailable";
    /// A sink refuses the credentials or the access.
    SINK_DENIED = "SinkDenied";
    /// A sink refuses rows and there is no `deadLetter` to route them to.
    SINK_REJECTED = "SinkRejected";
    /// A sink no longer holds the marker of an epoch that was applied to it.
    SINK_HISTORY_LOST = "SinkHistoryLost";
    /// The table exists with columns, partitions or features that do not fit.
    TABLE_MISMATCH = "TableMismatch";
    /// A topic exists with settings that do not fit.
    TOPIC_MISMATCH = "TopicMismatch";
    /// The database, schema or table that a sink writes does not exist, and the sink does not create it.
    TABLE_MISSING = "TableMissing";
    /// Other writers keep changing the table; the commit is tried again by itself.
    TABLE_CONTENDED = "TableContended";
    /// A file that an epoch staged for a sink is gone.
    STAGED_FILE_MISSING = "StagedFileMissing";
    /// A sink left the spec while a decided epoch was not yet applied to it, and it is out of reach.
    UNDONE_INTENT_OF_REMOVED_SINK = "UndoneIntentOfRemovedSink";
    /// A record cannot be processed and there is no `deadLetter` to route it to.
    RECORD_REFUSED = "RecordRefused";
    /// Processes die of one record. It is computed no more in this pod; `skip` makes it a dead letter.
    RECORD_KILLS_WORKER = "RecordKillsWorker";
    /// An epoch could not be computed; it is tried again from the last checkpoint.
    EPOCH_FAILED = "EpochFailed";
    /// A value of a window cannot be computed: a sum outgrows its type, or SQL below an aggregate fails on it.
    WINDOW_FAILED = "WindowFailed";
    /// The state does not fit into the worker's memory.
    STATE_TOO_LARGE = "StateTooLarge";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn a_reason_is_one_camel_case_word_with_a_meaning_and_used_once() {
        let mut names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before, "a reason is listed twice");
        for (name, meaning) in ALL {
            assert!(
                name.chars().next().is_some_and(char::is_uppercase),
                "{name}"
            );
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert!(meaning.trim().ends_with('.'), "{name}: {meaning}");
        }
    }
}
