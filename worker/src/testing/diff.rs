//! What of the expected rows is not there, and what is there beyond them, for a person.

use super::cell::{Cell, shown};
use super::expect::Row;

/// A row that is there in part: which expected row, which found one.
type Near = (usize, usize);

/// Compares rows as multisets; columns that an expected row does not name are not compared. `None`: all is as expected.
pub(super) fn diff(what: &str, expected: &[Row], found: &[Row]) -> Option<String> {
    let taken = matched(expected, found);
    let mut missing: Vec<usize> = (0..expected.len())
        .filter(|e| !taken.contains(&Some(*e)))
        .collect();
    let mut beyond: Vec<usize> = (0..found.len()).filter(|&f| taken[f].is_none()).collect();
    if missing.is_empty() && beyond.is_empty() {
        return None;
    }
    let mut near = Vec::new();
    while let Some((e, f)) = nearest(&missing, &beyond, (expected, found)) {
        missing.retain(|&m| m != e);
        beyond.retain(|&b| b != f);
        near.push((e, f));
    }
    Some(told(what, (expected, found), &near, (&missing, &beyond)))
}

fn told(
    what: &str,
    (expected, found): (&[Row], &[Row]),
    near: &[Near],
    (missing, beyond): (&[usize], &[usize]),
) -> String {
    let mut counts = Vec::new();
    for (count, kind) in [
        (near.len(), "different"),
        (missing.len(), "missing"),
        (beyond.len(), "not expected"),
    ] {
        if count > 0 {
            counts.push(format!("{count} {kind}"));
        }
    }
    let mut lines = vec![format!(
        "{what}: {} expected, {} found: {}",
        rows(expected.len()),
        found.len(),
        counts.join(", ")
    )];
    for &(e, f) in near {
        lines.push(format!("  different     {}", shown(&expected[e])));
        for (name, cell) in &expected[e] {
            let is = value(&found[f], name);
            if !is.is_some_and(|is| is.same(cell)) {
                let is = is.map_or("absent".to_owned(), ToString::to_string);
                lines.push(format!("                `{name}` is {is}, expected {cell}"));
            }
        }
    }
    let missing = missing.iter().map(|&e| ("missing     ", &expected[e]));
    let beyond = beyond.iter().map(|&f| ("not expected", &found[f]));
    let others = missing.chain(beyond);
    lines.extend(others.map(|(kind, row)| format!("  {kind}  {}", shown(row))));
    lines.join("\n") + "\n"
}

fn rows(count: usize) -> String {
    if count == 1 {
        "1 row".to_owned()
    } else {
        format!("{count} rows")
    }
}

fn value<'a>(row: &'a Row, name: &str) -> Option<&'a Cell> {
    row.iter().find(|(n, _)| n == name).map(|(_, cell)| cell)
}

/// Named columns that are as expected.
fn agreeing(expected: &Row, found: &Row) -> usize {
    let agrees =
        |(name, cell): &&(String, Cell)| value(found, name).is_some_and(|is| is.same(cell));
    expected.iter().filter(agrees).count()
}

/// For each found row the expected row that it stands for: as many pairs as there can be (augmenting paths).
fn matched(expected: &[Row], found: &[Row]) -> Vec<Option<usize>> {
    let fits: Vec<Vec<usize>> = expected
        .iter()
        .map(|e| {
            (0..found.len())
                .filter(|&f| agreeing(e, &found[f]) == e.len())
                .collect()
        })
        .collect();
    let mut taken = vec![None; found.len()];
    for e in 0..expected.len() {
        place(e, &fits, &mut taken, &mut vec![false; found.len()]);
    }
    taken
}

/// Finds a place for an expected row, and other places for those that stand in its way.
fn place(e: usize, fits: &[Vec<usize>], taken: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    for &f in &fits[e] {
        if std::mem::replace(&mut seen[f], true) {
            continue;
        }
        if taken[f].is_none_or(|other| place(other, fits, taken, seen)) {
            taken[f] = Some(e);
            return true;
        }
    }
    false
}

/// The pair that agrees most, if it agrees in anything.
fn nearest(
    missing: &[usize],
    beyond: &[usize],
    (expected, found): (&[Row], &[Row]),
) -> Option<Near> {
    let pairs = missing
        .iter()
        .flat_map(|&e| beyond.iter().map(move |&f| (e, f)));
    let scored = pairs.map(|(e, f)| (agreeing(&expected[e], &found[f]), (e, f)));
    // The first of the best.
    let best = scored.reduce(|best, one| if one.0 > best.0 { one } else { best })?;
    (best.0 > 0).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&str, i128)]) -> Row {
        let cell = |(name, value): &(&str, i128)| ((*name).to_owned(), Cell::Whole(*value));
        cells.iter().map(cell).collect()
    }

    #[test]
    fn order_does_not_matter_and_how_often_does() {
        let (one, two) = (row(&[("a", 1)]), row(&[("a", 2)]));
        assert_eq!(
            diff(
                "t",
                &[one.clone(), two.clone()],
                &[two.clone(), one.clone()]
            ),
            None
        );
        assert_eq!(
            diff("t", &[one.clone(), one.clone()], &[one.clone(), two]).unwrap(),
            "t: 2 rows expected, 2 found: 1 missing, 1 not expected\n  missing       {a: 1}\n  not expected  {a: 2}\n"
        );
        assert_eq!(
            diff("t", &[], &[one]).unwrap(),
            "t: 0 rows expected, 1 found: 1 not expected\n  not expected  {a: 1}\n"
        );
    }

    #[test]
    fn an_expected_row_leaves_the_one_that_another_needs() {
        let found = [row(&[("a", 1), ("b", 2)]), row(&[("a", 1), ("b", 3)])];
        let expected = [row(&[("a", 1)]), row(&[("a", 1), ("b", 2)])];
        assert_eq!(diff("t", &expected, &found), None);
    }

    #[test]
    fn a_row_that_is_nearly_there_is_told_column_by_column() {
        let found = [
            row(&[("a", 7), ("b", 9), ("c", 0)]),
            row(&[("a", 1), ("b", 2), ("c", 3)]),
        ];
        let expected = [row(&[("a", 1), ("b", 4)])];
        assert_eq!(
            diff("t", &expected, &found).unwrap(),
            "t: 1 row expected, 2 found: 1 different, 1 not expected\n  different     {a: 1, b: 4}\n                \
             `b` is 2, expected 4\n  not expected  {a: 7, b: 9, c: 0}\n"
        );
    }
}
