//! Windows of event time (semantics 16).

use evp_api::plan::WindowPlan;

/// Start of the window that holds an instant; microseconds.
pub fn start(window: WindowPlan, t: i64) -> i64 {
    let WindowPlan::Tumbling { size, origin } = window;
    origin + (t - origin).div_euclid(size) * size
}

/// End of the window that starts there.
pub fn end(window: WindowPlan, start: i64) -> i64 {
    let WindowPlan::Tumbling { size, .. } = window;
    start + size
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
}
