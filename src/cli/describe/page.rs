//! The lines of a description, before their columns are aligned.

use crate::container::words::may_deceive;

/// What is written so far. Levels are two spaces.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// A line whose cells are ended by tabs.
    pub fn line(&mut self, level: usize, text: impl AsRef<str>) {
        self.0.extend(std::iter::repeat_n("  ", level));
        for character in text.as_ref().chars() {
            match character {
                '\n' | '\t' => self.0.push(character),
                // As kubectl shows them (`terminalEscaper` in `k8s.io/cli-runtime/pkg/printers/terminal.go`).
                '\r' => self.0.push_str("\\r"),
                '\u{1b}' => self.0.push_str("^["),
                other if may_deceive(other) => self.0.extend(other.escape_default()),
                other => self.0.push(other),
            }
        }
        self.0.push('\n');
    }

    /// A title and its lines beside it.
    pub fn list(&mut self, title: &str, lines: &[String]) {
        let [first, rest @ ..] = lines else { return self.line(0, format!("{title}:\t<none>")) };
        self.line(0, format!("{title}:\t{first}"));
        for line in rest {
            self.line(0, format!("\t{line}"));
        }
    }

    /// All of it.
    pub fn text(self) -> String {
        self.0
    }
}
