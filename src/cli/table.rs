//! Text in columns.

use std::fmt::{self, Display, Formatter};

/// Which side of its column a cell stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of cells below their headings; each column is as wide as its widest cell, two spaces from the next.
pub struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns with these headings; without a row for them when all are empty.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let headings: Vec<_> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let rows = if headings.iter().all(String::is_empty) { Vec::new() } else { vec![headings] };
        Self { aligns: columns.iter().map(|(_, align)| *align).collect(), rows }
    }

    /// Whether there is no row but the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Adds a row, with as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let widths = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.aligns) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}")),
                    Align::Right => line.push_str(&format!("{cell:>width$}")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
