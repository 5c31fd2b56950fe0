//! Windows of event time (semantics 16, 17). A session's end moves with its last row; the others are cut beforehand.

use evp_api::plan::WindowPlan;

use crate::position::Micros;

/// Start of the newest window that holds an instant; microseconds. Of a session: of the slot, `gap` wide, that holds it. Two
/// instants of one slot are less than `gap` apart, so they are always in one session.
pub fn start(window: WindowPlan, t: i64) -> i64 {
    let (step, origin) = match window {
        WindowPlan::Tumbling { size, origin } => (size, origin),
        WindowPlan::Hopping { slide, origin, .. } => (slide, origin),
        WindowPlan::Session { gap } => (gap, 0),
    };
    origin + (t - origin).div_euclid(step) * step
}

/// End of the window that starts there; of a session: of one whose last row is there.
pub fn end(window: WindowPlan, start: i64) -> i64 {
    start.saturating_add(length(window))
}

/// From the start of a window to its end; of a session: from its last row.
pub fn length(window: WindowPlan) -> i64 {
    match window {
        WindowPlan::Tumbling { size, .. } | WindowPlan::Hopping { size, .. } => size,
        WindowPlan::Session { gap } => gap,
    }
}

/// From the start of a window to that of the next.
pub fn slide(window: WindowPlan) -> i64 {
    match window {
        WindowPlan::Tumbling { size, .. } => size,
        WindowPlan::Hopping { slide, .. } => slide,
        WindowPlan::Session { gap } => gap,
    }
}

/// Most windows that hold one instant.
pub fn hops(window: WindowPlan) -> i64 {
    match window {
        WindowPlan::Hopping { size, slide, .. } => (size + slide - 1) / slide,
        WindowPlan::Tumbling { .. } | WindowPlan::Session { .. } => 1,
    }
}

/// A window or session that is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenWindow {
    /// Its start.
    pub start: Micros,
    /// Its end; a session's moves with its last row.
    pub end: Micros,
    /// The watermark that closes it.
    pub closes_at: Micros,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(size: i64, origin: i64, t: i64, expected: i64) {
        assert_eq!(
            start(WindowPlan::Tumbling { size, origin }, t),
            expected,
            "t = {t}"
        );
    }

    #[test]
    fn rule_16_windows_are_closed_at_their_start_and_open_at_their_end() {
        check(10, 0, 0, 0);
        check(10, 0, 9, 0);
        check(10, 0, 10, 10);
    }

    #[test]
    fn rule_16_floor_holds_for_negatives() {
        check(10, 0, -1, -10);
        check(10, 0, -10, -10);
    }

    #[test]
    fn rule_16_an_origin_shifts_all_windows() {
        check(10, 3, 2, -7);
        check(10, 3, 3, 3);
    }

    #[test]
    fn rule_16_an_instant_lies_in_each_window_that_begins_within_size_before_it() {
        for (size, slide, origin) in [(10, 5, 0), (10, 3, 1), (10, 10, 0), (7, 2, -3)] {
            let window = WindowPlan::Hopping {
                size,
                slide,
                origin,
            };
            for t in -30..30 {
                let newest = start(window, t);
                let held = (0..hops(window)).map(|hop| newest - hop * slide);
                let held: Vec<_> = held.filter(|&start| t < end(window, start)).collect();
                let begins = (-60..60).rev().filter(|s| (s - origin) % slide == 0);
                let all: Vec<_> = begins.filter(|&s| s <= t && t < s + size).collect();
                assert_eq!(held, all, "{window:?} t = {t}");
            }
        }
    }
}
