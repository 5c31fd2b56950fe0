//! Is the log still the one that the positions count in, and does it still hold what comes next (semantics 25)?

use evp_api::plan::OnDataLoss;
use evp_api::reason;
use evp_core::position::{Position, SplitId, SplitPosition, SplitPositions};
use evp_core::record::Gap;

use super::client::Range;
use super::reader::Reader;
use crate::source::SourceError;

impl Reader {
    /// Semantics 25, before anything is read: is this the log that the positions count in?
    pub(super) fn check_known(
        &mut self,
        known: &SplitPositions,
        partitions: &[i32],
        topic_id: Option<&str>,
    ) -> Result<(), SourceError> {
        for (split, position) in known {
            let Some(partition) = split.as_partition().filter(|p| partitions.contains(p)) else {
                return Err(self.replaced(split, "the topic no longer has it"));
            };
            self.check_id(split, position, topic_id)?;
            let range = self.connected()?.range(partition)?;
            self.check_range(partition, position.next.0, range)?;
        }
        Ok(())
    }

    /// Is the topic still the one of our positions? A cluster that does not tell is believed.
    pub(super) fn check_topic(&mut self) -> Result<(), SourceError> {
        let topic_id = self.connected()?.topic_id()?;
        for (&partition, position) in &self.reached {
            self.check_id(
                &SplitId::partition(partition),
                position,
                topic_id.as_deref(),
            )?;
        }
        Ok(())
    }

    fn check_id(
        &self,
        split: &SplitId,
        position: &SplitPosition,
        topic_id: Option<&str>,
    ) -> Result<(), SourceError> {
        if position.started.is_some() {
            return Err(SourceError::Stop {
                reason: reason::CHECKPOINT_DAMAGED,
                message: format!(
                    "the positions of partition {split} are those of a generator; give topic {} a source name or a checkpoint of \
                     its own",
                    self.plan.topic
                ),
            });
        }
        match (position.topic_id.as_deref(), topic_id) {
            (Some(was), Some(is)) if was != is => {
                Err(self.replaced(split, "the topic's id is another"))
            }
            _ => Ok(()),
        }
    }

    /// `Ok(true)`: records before the log's start are gone and the manifest says to record the gap.
    fn check_range(&self, partition: i32, next: i64, range: Range) -> Result<bool, SourceError> {
        let split = SplitId::partition(partition);
        if next > range.high {
            let what = format!("the log ends at {}, the position is {next}", range.high);
            return Err(self.replaced(&split, &what));
        }
        if next < range.low && self.plan.on_data_loss == OnDataLoss::Fail {
            return Err(SourceError::Stop {
                reason: reason::DATA_LOST,
                message: format!(
                    "topic {} partition {split}: records {next} to {} were deleted before they were read. Lengthen \
                     the topic's retention; to go on without them, set onDataLoss: RecordGap",
                    self.plan.topic,
                    range.low - 1
                ),
            });
        }
        Ok(next < range.low)
    }

    fn replaced(&self, split: &SplitId, what: &str) -> SourceError {
        SourceError::Stop {
            reason: reason::TOPIC_REPLACED,
            message: format!(
                "topic {} partition {split} is not the log that was read before: {what}. If the new topic is meant, \
                 start with a new checkpoint path",
                self.plan.topic
            ),
        }
    }

    /// Semantics 25 for where we stand: steps over a gap and remembers it.
    pub(super) fn check_reached(&mut self) -> Result<(), SourceError> {
        self.check_topic()?;
        let reached: Vec<_> = self.reached.iter().map(|(&p, r)| (p, r.next.0)).collect();
        for (partition, next) in reached {
            let split = SplitId::partition(partition);
            let range = self.connected()?.range(partition)?;
            if self.check_range(partition, next, range)? {
                let (from, to) = (Position(next), Position(range.low));
                self.gaps.push(Gap { split, from, to });
                if let Some(reached) = self.reached.get_mut(&partition) {
                    reached.next = to;
                }
            }
        }
        Ok(())
    }
}
