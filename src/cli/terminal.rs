//! Lines for a person: titles, rows, what was sent and received. In colour where that is wanted.

use std::io::{self, IsTerminal, Stdout, Write, stdout};

/// Stdout, written line by line. Each line fails if stdout does.
pub struct Terminal {
    out: Stdout,
    colour: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Terminal {
    /// Coloured if stdout is a terminal and NO_COLOR is empty or not set.
    pub fn stdout() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "https://no-color.org: not a setting of Postern's"
        )]
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: stdout(),
            colour: stdout().is_terminal() && !unwanted,
        }
    }

    /// A heading, after an empty line.
    pub fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(BOLD, text);
        writeln!(self.out, "\n{text}")
    }

    /// A label and its value, values in one column.
    pub fn row(&mut self, label: &str, value: &str) -> io::Result<()> {
        let label = self.painted(DIM, &format!("{label:<10}"));
        writeln!(self.out, "  {label}  {value}")
    }

    /// A remark, dimmed.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(DIM, text);
        writeln!(self.out, "  {text}")
    }

    /// What the client sent.
    pub fn sent(&mut self, text: &str) -> io::Result<()> {
        let mark = self.painted(CYAN, ">");
        writeln!(self.out, "  {mark} {text}")
    }

    /// What came back.
    pub fn received(&mut self, text: &str) -> io::Result<()> {
        let mark = self.painted(GREEN, "<");
        writeln!(self.out, "  {mark} {text}")
    }

    /// Something to paste: whole and alone on its line.
    pub fn command(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "    {text}")
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
