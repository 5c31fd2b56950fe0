//! Tables for people: columns as wide as their widest cell, two spaces between them.

use std::io::Write;

/// Prints a head line and rows. Cells hold no line breaks.
pub(super) fn print(
    out: &mut impl Write,
    columns: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> std::io::Result<()> {
    let head = columns.iter().map(|c| c.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let rows = [vec!["Late".to_owned(), "10".to_owned()]];
        print(&mut out, &["code", "n"], rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "CODE  N\nLate  10\n");
    }
}
