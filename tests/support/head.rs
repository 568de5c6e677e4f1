//! The head of a request or an answer as it stood on the wire, and what tests ask of it. Lenient: it judges nothing.

use std::fmt;

/// The first line and the headers, in order, with their spelling.
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    pub raw: Vec<u8>,
    pub line: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// `raw` ends with the empty line.
    pub fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        Self {
            raw: raw.to_vec(),
            line,
            headers: fields(lines),
        }
    }

    /// Of an answer.
    pub fn status(&self) -> u16 {
        match self.line.split(' ').nth(1).and_then(|code| code.parse().ok()) {
            Some(code) => code,
            None => panic!("no status line: {:?}", self.line),
        }
    }

    /// Of a request.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header that must not be there twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times in {self:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.raw))
    }
}

/// Header lines up to the empty one.
pub fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let fields = lines.take_while(|line| !line.is_empty());
    fields
        .map(|line| match line.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
            None => (line.to_owned(), String::new()),
        })
        .collect()
}
