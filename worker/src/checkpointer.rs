//! Executes the protocol's decisions against the store and the sinks.

/// Proof that the head holds the intent: made only here, by the code that won the head.
#[derive(Debug)]
pub struct CommitPermit(());
