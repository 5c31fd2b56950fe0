//! Known mistakes, for tests alone: each is switched on and must be found by a test that is there without it.
//!
//! Outside of tests nothing of them is compiled. Who finds what: `simulation/mistakes.rs`.

/// `mistaken!(Name)`: that mistake is made on this thread. Always false outside of tests.
macro_rules! mistaken {
    ($mistake:ident) => {{
        #[cfg(test)]
        let made = $crate::mistake::is_made($crate::mistake::Mistake::$mistake);
        #[cfg(not(test))]
        let made = false;
        made
    }};
}

#[cfg(test)]
pub(crate) use switch::{Mistake, is_made, while_made};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use evp_core::mistake as core;

    macro_rules! mistakes {
        ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
            /// One line of the worker, left out or turned round.
            #[derive(Clone, Copy, Debug, Eq, PartialEq)]
            pub(crate) enum Mistake { $($(#[doc = $doc])+ $name,)+ }

            impl Mistake {
                pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

                /// What is wrong, in words.
                pub(crate) fn words(self) -> &'static str {
                    match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
                }
            }
        };
    }

    mistakes! {
        /// the head says that an epoch is applied before it is
        RecordedBeforeApplied,
        /// the head is replaced whatever is there
        SwapWithoutETag,
        /// "precondition failed" and "already exists" are taken for a success
        RefusedTakenAsWon,
        /// our own write, refused when it is repeated, is taken for somebody else's
        OwnWriteNotKnown,
        /// who lost the head writes on over the new one
        ZombieUnfenced,
        /// a new owner keeps the term
        TermKept,
        /// a new owner does not remember whom it superseded
        SupersededForgotten,
        /// who was superseded starts again and takes the lane back
        TakeOverLoop,
        /// `born.json` is not written
        BornLeftOut,
        /// a plan is not kept beside the epochs decided under it
        PlanNotKept,
        /// the copy of a decided body is not kept
        HistoryLeftOut,
        /// a wiped checkpoint is taken for a new one: the newest epoch that was seen is not asked for
        SeenEpochIgnored,
        /// after a start sinks are not asked what they hold: a head that was rolled back goes on
        SinksNotAsked,
        /// a table or folder that lost its marker is taken for one that was never written to
        NoMarkerTakenAsNothing,
        /// a sink that the plan removed loses what was decided for it
        UndoneOfRemovedSinkDropped,
        /// an error while an epoch is applied is taken for done
        ErrorTakenAsDone,
        /// the epoch of a reset has the number of the one before it
        EpochReusedByReset,
        /// after a reset the rest of a window takes the place of the whole
        PartOverWhole,
        /// a Delta commit has no marker
        NoTxn,
        /// after a doubtful commit the same rows are committed again, without a look at the marker
        ConflictRebased,
        /// a merge that changes no row drops its marker
        EmptyMergeDropsTxn,
        /// a merge goes by a list of files that another writer's OPTIMIZE has replaced
        StaleFilesMerged,
        /// the marker of dead letters is written before they are where it says
        MarkerBeforeCopy,
        /// dead letters can be read before their epoch is decided
        LettersBeforeDecision,
        /// the head does not name the state of its epoch
        StateFileLeftOut,
        /// state files are read whatever their checksum
        StateChecksumIgnored,
        /// the sweep takes files that the head names
        LiveFileCollected,
        /// after a start the windows are empty
        StateNotRestored,
        /// after a start the watermark is none
        WatermarkNotRestored,
        /// after an epoch is decided the next one opens on the state before it
        StateNotKept,
        /// after a start splits are read from their beginning
        ReadsFromTheBeginning,
        /// records that did not fit into an epoch are forgotten
        CarriedDropped,
        /// who is told to end decides the positions of the open epoch without its rows
        TailLost,
        /// the watermark is the maximum over the splits
        WatermarkByMax,
        /// a late row goes into its closed window
        LateReopensWindow,
        /// an event from the future is accepted, and closes every window
        FutureAccepted,
    }

    thread_local! {
        static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// This mistake is made on this thread.
    pub(crate) fn is_made(mistake: Mistake) -> bool {
        MADE.get() == Some(mistake)
    }

    /// Makes a mistake on this thread for as long as this takes.
    pub(crate) fn while_made<T>(mistake: Mistake, work: impl FnOnce() -> T) -> T {
        struct Unmake;
        impl Drop for Unmake {
            fn drop(&mut self) {
                make(None);
            }
        }
        make(Some(mistake));
        let _unmake = Unmake;
        work()
    }

    fn make(mistake: Option<Mistake>) {
        MADE.set(mistake);
        core::make(match mistake {
            Some(Mistake::WatermarkByMax) => Some(core::Mistake::WatermarkByMax),
            Some(Mistake::LateReopensWindow) => Some(core::Mistake::LateReopensWindow),
            Some(Mistake::FutureAccepted) => Some(core::Mistake::FutureAccepted),
            _ => None,
        });
    }
}
