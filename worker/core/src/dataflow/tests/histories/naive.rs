//! The naive evaluation: all rows are kept, and every question is answered by a loop over them. Microseconds.

use std::collections::BTreeSet;

use super::{SECOND, Window};

/// A record; its time in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) kind: i64,
    pub(super) n: i64,
    pub(super) t: i64,
}

/// A row that counts: kind, number, time.
type Counted = (i64, i64, i64);

/// An output row: start, end, kind, count, sum, least, most, distinct.
type Output = Vec<i64>;

/// One aggregate.
pub(super) struct Model {
    window: Window,
    lateness: i64,
    /// Rows of fixed windows with the start of the window they count in.
    parts: Vec<(i64, Counted)>,
    /// What the windows that are open gave last.
    told: BTreeSet<Output>,
    /// Windows that closed: start and kind.
    closed: BTreeSet<(i64, i64)>,
    /// Rows of sessions that are open.
    rows: Vec<Counted>,
}

impl Model {
    pub(super) fn new(window: Window, lateness: i64) -> Self {
        Self {
            window,
            lateness: lateness * SECOND,
            parts: Vec::new(),
            told: BTreeSet::new(),
            closed: BTreeSet::new(),
            rows: Vec::new(),
        }
    }

    fn is_closed(&self, end: i64, w: Option<i64>) -> bool {
        w.is_some_and(|w| end + self.lateness <= w)
    }

    /// Takes the rows of an epoch in; how many are late.
    pub(super) fn push(&mut self, rows: &[Counted], w: Option<i64>) -> u64 {
        let sessions = self.sessions();
        let mut late = 0;
        for &row in rows {
            let counts = match self.window {
                Window::Fixed {
                    size,
                    slide,
                    origin,
                } => {
                    let (size, slide, origin) = (size * SECOND, slide * SECOND, origin * SECOND);
                    let before = self.parts.len();
                    let mut start = origin - 40 * slide;
                    while start <= row.2 {
                        if row.2 < start + size && !self.is_closed(start + size, w) {
                            self.parts.push((start, row));
                        }
                        start += slide;
                    }
                    self.parts.len() > before
                }
                Window::Session { gap } => {
                    let gap = gap * SECOND;
                    let joins = |session: &Vec<Counted>| {
                        let times = || session.iter().map(|row| row.2);
                        let (first, last) = (times().min().unwrap(), times().max().unwrap());
                        session[0].0 == row.0 && row.2 + gap > first && row.2 < last + gap
                    };
                    let counts = !self.is_closed(row.2 + gap, w) || sessions.iter().any(joins);
                    if counts {
                        self.rows.push(row);
                    }
                    counts
                }
            };
            late += u64::from(!counts);
        }
        late
    }

    /// Rows that are less than a gap apart, by kind.
    fn sessions(&self) -> Vec<Vec<Counted>> {
        let Window::Session { gap } = self.window else {
            return Vec::new();
        };
        let mut rows = self.rows.clone();
        rows.sort_unstable_by_key(|row| (row.0, row.2));
        let same = |a: &Counted, b: &Counted| a.0 == b.0 && b.2 - a.2 < gap * SECOND;
        rows.chunk_by(same).map(<[_]>::to_vec).collect()
    }

    /// Closes the epoch: windows that changed, windows that closed, each in order.
    pub(super) fn close(&mut self, w: Option<i64>) -> (Vec<Output>, Vec<Output>) {
        match self.window {
            Window::Fixed { size, .. } => self.close_fixed(size * SECOND, w),
            Window::Session { gap } => (Vec::new(), self.close_sessions(gap * SECOND, w)),
        }
    }

    fn close_fixed(&mut self, size: i64, w: Option<i64>) -> (Vec<Output>, Vec<Output>) {
        let windows: BTreeSet<(i64, i64)> = self.parts.iter().map(|(s, row)| (*s, row.0)).collect();
        let (mut changed, mut ends) = (Vec::new(), Vec::new());
        for (start, kind) in windows {
            let parts = self.parts.iter();
            let rows = parts.filter(|(s, row)| (*s, row.0) == (start, kind));
            let rows: Vec<Counted> = rows.map(|(_, row)| *row).collect();
            let row = output(start, start + size, &rows, true);
            if self.told.insert(row.clone()) {
                changed.push(row.clone());
            }
            if self.is_closed(start + size, w) && self.closed.insert((start, kind)) {
                ends.push(row);
            }
        }
        (changed, ends)
    }

    fn close_sessions(&mut self, gap: i64, w: Option<i64>) -> Vec<Output> {
        let mut ends = Vec::new();
        let sessions = self.sessions();
        self.rows.clear();
        for session in sessions {
            let times = || session.iter().map(|row| row.2);
            let (first, last) = (times().min().unwrap(), times().max().unwrap());
            if self.is_closed(last + gap, w) {
                ends.push(output(first, last + gap, &session, false));
            } else {
                self.rows.extend(session);
            }
        }
        ends.sort_unstable();
        ends
    }
}

fn output(start: i64, end: i64, rows: &[Counted], distinct: bool) -> Output {
    let numbers = || rows.iter().map(|row| row.1);
    let values: BTreeSet<i64> = numbers().collect();
    let count = i64::try_from(rows.len()).unwrap();
    let ids = if distinct {
        i64::try_from(values.len()).unwrap()
    } else {
        count
    };
    let (least, most) = (numbers().min().unwrap(), numbers().max().unwrap());
    let total = numbers().sum();
    vec![start, end, rows[0].0, count, total, least, most, ids]
}
