//! Known mistakes in the dataflow, for tests alone: the worker's tests switch one on and must find it.
//!
//! Without the feature `mistakes` nothing of them is compiled.

/// `mistaken!(Name)`: that mistake is made on this thread. Always false without the feature.
macro_rules! mistaken {
    ($mistake:ident) => {{
        #[cfg(feature = "mistakes")]
        let made = $crate::mistake::is_made($crate::mistake::Mistake::$mistake);
        #[cfg(not(feature = "mistakes"))]
        let made = false;
        made
    }};
}

#[cfg(feature = "mistakes")]
pub use switch::{Mistake, is_made, make};

#[cfg(feature = "mistakes")]
mod switch {
    use std::cell::Cell;

    /// One line of the dataflow, left out or turned round.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum Mistake {
        /// The watermark is the maximum over the splits.
        WatermarkByMax,
        /// A late row goes into its window again.
        LateReopensWindow,
        /// An event from the future is accepted.
        FutureAccepted,
    }

    thread_local! {
        static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// From now on this mistake is made on this thread; `None`: none.
    pub fn make(mistake: Option<Mistake>) {
        MADE.set(mistake);
    }

    /// This mistake is made on this thread.
    pub fn is_made(mistake: Mistake) -> bool {
        MADE.get() == Some(mistake)
    }
}
