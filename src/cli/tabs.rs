//! Text in columns as Go's text/tabwriter aligns it, on which kubectl's layouts rest.
//!
//! A tab ends a cell. A column is what lines one below the other have at the same place: it ends where a line has no
//! such cell, so that every block of lines has widths of its own. What follows a line's last tab belongs to no column.

/// Aligns the cells of `text`: a column is as wide as its widest cell and `padding`, and not narrower than `least`.
pub fn align(text: &str, least: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 2);
    // Of each column the block that was looked at last: the line after it, and its widest cell.
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        blocks.resize(blocks.len().max(line.len()), (0, 0));
        for (column, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < line.len() {
                if blocks[column].0 <= at {
                    blocks[column] = block(&lines, at, column);
                }
                let width = blocks[column].1.saturating_add(padding).max(least);
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

/// The block of a column that begins with the line at `at`: the line after it, and its widest cell.
fn block(lines: &[Vec<&str>], at: usize, column: usize) -> (usize, usize) {
    let block = lines[at..].iter().take_while(|line| column + 1 < line.len());
    let widths = block.map(|line| line[column].chars().count());
    let (length, widest) = widths.fold((0, 0), |(length, widest), width| (length + 1, widest.max(width)));
    (at + length, widest)
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
        assert_eq!(
            align("a\tb\tc\naa\tb\n\naaa\tbb\tc\na\t\td\n", 0, 1),
            "a  b c\naa b\n\naaa bb c\na      d\n"
        );
        assert_eq!(
            align(&"a\tb\tc\n".repeat(100_000), 0, 1),
            "a b c\n".repeat(100_000),
            "not in quadratic time"
        );
    }
}
