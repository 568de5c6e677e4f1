//! Lines for a person: titles, rows, what was sent and received. In colour where that is wanted.

use std::io::{self, IsTerminal, Stdout, Write, stdout};

pub struct Terminal {
    out: Stdout,
    colour: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Terminal {
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

    pub fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(BOLD, text);
        writeln!(self.out, "\n{text}")
    }

    pub fn row(&mut self, label: &str, value: &str) -> io::Result<()> {
        let label = self.painted(DIM, &format!("{label:<10}"));
        writeln!(self.out, "  {label}  {value}")
    }

    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(DIM, text);
        writeln!(self.out, "  {text}")
    }

    pub fn sent(&mut self, text: &str) -> io::Result<()> {
        let mark = self.painted(CYAN, ">");
        writeln!(self.out, "  {mark} {text}")
    }

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
