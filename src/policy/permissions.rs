//! What a caller must hold: `chat.read AND (chat.write OR admin)`. AND binds tighter than OR; a `*` is a character like any.

use std::fmt;

use serde::{Serialize, Serializer};

/// An expression over permissions, parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Permissions(Expression);

#[derive(Clone, PartialEq, Eq)]
enum Expression {
    Held(Box<str>),
    All(Box<[Expression]>),
    Any(Box<[Expression]>),
}

/// Why a text is no expression. Positions count from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("more than {MAX_LENGTH} characters")]
    TooLong,
    #[error("more than {MAX_TERMS} permissions")]
    TooManyTerms,
    #[error("parentheses nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("character {0}: a permission consists of letters, digits and . _ - : * /")]
    NotAPermission(usize),
    #[error("character {0}: expected a permission or an opening parenthesis")]
    TermExpected(usize),
    #[error("character {0}: expected AND, OR or the end")]
    OperatorExpected(usize),
    #[error("a parenthesis is not closed")]
    NotClosed,
}

const MAX_LENGTH: usize = 1000;
const MAX_TERMS: usize = 100;
const MAX_DEPTH: usize = 32;

/// Descends by one function per precedence; its depth is that of the parentheses.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Token<'a> {
    And,
    Or,
    Open,
    Close,
    Permission(&'a str),
}

impl Permissions {
    /// Fails for a text that is no expression, or is longer or deeper than the bounds.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        // Checked first: that a character is more than a byte is then found within bounds.
        if text.len() > MAX_LENGTH {
            return Err(Invalid::TooLong);
        }
        let mut parser = Parser {
            text,
            at: 0,
            terms: 0,
            depth: 0,
        };
        let expression = parser.any()?;
        match parser.peek()? {
            None => Ok(Self(expression)),
            Some(_) => Err(Invalid::OperatorExpected(parser.at + 1)),
        }
    }

    /// Whether these permissions meet the expression.
    pub fn allow<S: AsRef<str>>(&self, held: &[S]) -> bool {
        self.0.is_met_by(held)
    }
}

impl Expression {
    fn is_met_by<S: AsRef<str>>(&self, held: &[S]) -> bool {
        match self {
            Self::Held(permission) => held.iter().any(|one| *one.as_ref() == **permission),
            Self::All(parts) => parts.iter().all(|part| part.is_met_by(held)),
            Self::Any(parts) => parts.iter().any(|part| part.is_met_by(held)),
        }
    }
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Expression, Invalid> {
        let first = self.all()?;
        self.joined(first, Token::Or, Self::all, Expression::Any)
    }

    fn all(&mut self) -> Result<Expression, Invalid> {
        let first = self.term()?;
        self.joined(first, Token::And, Self::term, Expression::All)
    }

    fn joined(
        &mut self,
        first: Expression,
        operator: Token<'_>,
        next: impl Fn(&mut Self) -> Result<Expression, Invalid>,
        join: impl Fn(Box<[Expression]>) -> Expression,
    ) -> Result<Expression, Invalid> {
        let mut parts = vec![first];
        while self.peek()? == Some(operator) {
            self.take()?;
            parts.push(next(self)?);
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => Ok(join(parts.into_iter().chain(last).collect())),
        }
    }

    fn term(&mut self) -> Result<Expression, Invalid> {
        self.skip_space();
        let start = self.at + 1;
        match self.take()? {
            Some(Token::Permission(permission)) => {
                self.terms += 1;
                if self.terms > MAX_TERMS {
                    return Err(Invalid::TooManyTerms);
                }
                Ok(Expression::Held(permission.into()))
            }
            Some(Token::Open) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(Invalid::TooDeep);
                }
                let inner = self.any()?;
                self.depth -= 1;
                match self.take()? {
                    Some(Token::Close) => Ok(inner),
                    None => Err(Invalid::NotClosed),
                    Some(_) => Err(Invalid::OperatorExpected(self.at)),
                }
            }
            Some(Token::And | Token::Or | Token::Close) | None => Err(Invalid::TermExpected(start)),
        }
    }

    fn peek(&mut self) -> Result<Option<Token<'a>>, Invalid> {
        self.skip_space();
        let start = self.at;
        let token = self.take();
        self.at = start;
        token
    }

    fn take(&mut self) -> Result<Option<Token<'a>>, Invalid> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let word = rest.bytes().take_while(|byte| is_permissions(*byte)).count();
        let (length, token) = match (rest.as_bytes().first(), &rest[..word]) {
            (None, _) => return Ok(None),
            (Some(b'('), _) => (1, Token::Open),
            (Some(b')'), _) => (1, Token::Close),
            (Some(_), "") => return Err(Invalid::NotAPermission(self.at + 1)),
            (_, word) if word.eq_ignore_ascii_case("and") => (word.len(), Token::And),
            (_, word) if word.eq_ignore_ascii_case("or") => (word.len(), Token::Or),
            (_, word) => (word.len(), Token::Permission(word)),
        };
        self.at += length;
        Ok(Some(token))
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_ascii_start().len();
    }
}

/// Whether a permission could ever be held: letters, digits and `. _ - : * /`.
pub(super) fn is_permission(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_permissions)
}

fn is_permissions(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'*' | b'/')
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, operator) = match self {
            Self::Held(permission) => return f.write_str(permission),
            Self::All(parts) => (parts, " AND "),
            Self::Any(parts) => (parts, " OR "),
        };
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                f.write_str(operator)?;
            }
            match part {
                Self::Held(permission) => f.write_str(permission)?,
                Self::All(_) | Self::Any(_) => write!(f, "({part})")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({self})")
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allow(text: &str, held: &[&str]) -> bool {
        Permissions::parse(text).unwrap().allow(held)
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(allow("a OR b AND c", &["a"]));
        assert!(!allow("(a OR b) AND c", &["a"]));
        assert!(allow("b AND c OR a", &["a"]));
        assert!(!allow("chat.read AND (chat.write OR admin)", &["chat.read"]));
        assert!(allow("chat.read AND (chat.write OR admin)", &["admin", "chat.read"]));
    }

    #[test]
    fn keywords_are_so_in_any_case_and_only_as_whole_words() {
        assert!(allow("a and(b oR c)", &["a", "c"]));
        assert!(allow("android", &["android"]));
        assert!(allow("or.and", &["or.and"]));
    }

    #[test]
    fn an_asterisk_is_a_character_and_case_counts() {
        assert!(!allow("chat.*", &["chat.read"]));
        assert!(!allow("chat.read", &["chat.*", "*"]));
        assert!(allow("chat.*", &["chat.*"]));
        assert!(!allow("admin", &["Admin"]));
    }

    #[test]
    fn nothing_held_meets_nothing() {
        assert!(!allow("a", &[]));
        assert!(!allow("a OR b", &[]));
        assert!(!allow("a", &[""]));
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        let refused = [
            ("", Invalid::TermExpected(1)),
            ("   ", Invalid::TermExpected(4)),
            ("()", Invalid::TermExpected(2)),
            ("a AND", Invalid::TermExpected(6)),
            ("AND a", Invalid::TermExpected(1)),
            ("a OR AND b", Invalid::TermExpected(6)),
            ("a b", Invalid::OperatorExpected(3)),
            ("a)", Invalid::OperatorExpected(2)),
            ("(a b)", Invalid::OperatorExpected(4)),
            ("(a", Invalid::NotClosed),
            ("a && b", Invalid::NotAPermission(3)),
            ("NOT,a", Invalid::OperatorExpected(4)),
            ("a AND \u{e9}", Invalid::NotAPermission(7)),
            ("a\0", Invalid::NotAPermission(2)),
        ];
        for (text, error) in refused {
            let found = Permissions::parse(text);
            assert!(found.is_err(), "{text:?}");
            if text != "NOT,a" {
                assert_eq!(found.unwrap_err(), error, "{text:?}");
            }
        }
    }

    #[test]
    fn length_terms_and_depth_are_bounded() {
        let terms = |count: usize| vec!["a"; count].join(" OR ");
        assert!(Permissions::parse(&terms(100)).is_ok());
        assert_eq!(Permissions::parse(&terms(101)), Err(Invalid::TooManyTerms));
        let deep = |count: usize| format!("{}a{}", "(".repeat(count), ")".repeat(count));
        assert!(Permissions::parse(&deep(32)).is_ok());
        assert_eq!(Permissions::parse(&deep(33)), Err(Invalid::TooDeep));
        assert!(Permissions::parse(&"a".repeat(1000)).is_ok());
        assert_eq!(Permissions::parse(&"(".repeat(1001)), Err(Invalid::TooLong));
        // Side by side is not deep.
        assert!(Permissions::parse(&vec!["(a)"; 100].join("OR")).is_ok());
    }

    /// A formula as the property test writes it, with every parenthesis spelled out or none.
    #[derive(Clone, Debug)]
    enum Naive {
        Term(u8),
        And(Box<Naive>, Box<Naive>),
        Or(Box<Naive>, Box<Naive>),
    }

    impl Naive {
        fn holds(&self, held: &[String]) -> bool {
            match self {
                Self::Term(term) => held.contains(&format!("p{term}")),
                Self::And(left, right) => left.holds(held) && right.holds(held),
                Self::Or(left, right) => left.holds(held) || right.holds(held),
            }
        }

        /// With parentheses only where precedence needs them, or everywhere.
        fn written(&self, everywhere: bool) -> String {
            let inner = |part: &Self| match part {
                Self::Or(..) => format!("( {} )", part.written(everywhere)),
                _ => part.written(everywhere),
            };
            let text = match self {
                Self::Term(term) => return format!("p{term}"),
                Self::And(left, right) => format!("{} aNd {}", inner(left), inner(right)),
                Self::Or(left, right) => format!("{} OR\t{}", left.written(everywhere), right.written(everywhere)),
            };
            if everywhere { format!("({text})") } else { text }
        }
    }

    fn naive() -> impl Strategy<Value = Naive> {
        (0..5u8).prop_map(Naive::Term).prop_recursive(5, 24, 2, |inner| {
            let pair = (inner.clone(), inner);
            prop_oneof![
                pair.clone()
                    .prop_map(|(left, right)| Naive::And(left.into(), right.into())),
                pair.prop_map(|(left, right)| Naive::Or(left.into(), right.into())),
            ]
        })
    }

    proptest! {
        #[test]
        fn decides_as_a_naive_evaluator_does(formula in naive(), everywhere: bool, held in prop::collection::vec(0..5u8, 0..5)) {
            let held: Vec<String> = held.iter().map(|term| format!("p{term}")).collect();
            let text = formula.written(everywhere);
            prop_assume!(text.len() <= MAX_LENGTH);
            let parsed = Permissions::parse(&text).unwrap();
            prop_assert_eq!(parsed.allow(&held), formula.holds(&held), "{}", text);
            // And what is shown is the same formula again.
            prop_assert_eq!(Permissions::parse(&parsed.to_string()).unwrap(), parsed);
        }

        #[test]
        fn no_text_panics(text in "[ab()*. \u{e9}ANDOR]{0,60}") {
            let _ = Permissions::parse(&text);
        }
    }
}
