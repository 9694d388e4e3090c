//! Text in columns as Go's text/tabwriter aligns it, on which kubectl's layouts rest.
//!
//! A tab ends a cell. A column is what lines one below the other have at the same place: it ends where a line has no
//! such cell, so that every block of lines has widths of its own. What follows a line's last tab belongs to no column.

/// Aligns the cells of `text`: a column is as wide as its widest cell and `padding`, and not narrower than `least`.
pub fn align(text: &str, least: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    for (at, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < line.len() {
                let width = width(&lines, at, column).saturating_add(padding).max(least);
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

/// The widest cell of the column that the line at `at` is a part of.
fn width(lines: &[Vec<&str>], at: usize, column: usize) -> usize {
    let cell = |line: &&Vec<&str>| column + 1 < line.len();
    let above = lines.iter().take(at).rev().take_while(cell);
    let below = lines.iter().skip(at).take_while(cell);
    above.chain(below).filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_lines_has_widths_of_its_own() {
        let text = "Name:\tweb\nService Account:\tx\nIPs:\n  IP:\t10.0.0.1\nA\tb\tc\nAAA\tbbbb\tc\n";
        let expected = "\
Name:             web
Service Account:  x
IPs:
  IP:  10.0.0.1
A      b     c
AAA    bbbb  c
";
        assert_eq!(align(text, 0, 2), expected);
        assert_eq!(align("A\tB\n1\t2\n", 6, 3), "A     B\n1     2\n");
    }
}
