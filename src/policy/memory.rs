//! What a compiled policy takes, in about bytes: what a tenant may make large without writing much.

use std::iter::Sum;
use std::ops::Add;

use super::{Policy, Rule, RuleKind, jwt};

/// By what it is for. Equal regular expressions are built once, and counted by each policy that has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The automata of regular expressions.
    pub regexes: usize,
    /// OpenAPI documents.
    pub documents: usize,
    /// API keys, users, and keys that verify tokens.
    pub keys: usize,
}

/// One API key or user.
const KEY: usize = 512;
/// One key of a set, parsed for each of its algorithms.
const VERIFYING_KEY: usize = 16 * 1024;

impl Policy {
    /// All of its rules together.
    pub fn memory(&self) -> Memory {
        self.rules.iter().map(Rule::memory).sum()
    }
}

impl Rule {
    fn memory(&self) -> Memory {
        let regexes = self.matches.iter().map(|one| one.on.size()).sum();
        let (documents, keys) = match &self.kind {
            RuleKind::ApiKey(rule) => (0, rule.keys.len() * KEY),
            RuleKind::BasicAuth(rule) => (0, rule.users() * KEY),
            RuleKind::Jwt(rule) => match &rule.keys {
                jwt::Keys::Set(set) => (0, set.len() * VERIFYING_KEY),
                jwt::Keys::Url { .. } => (0, 0),
            },
            RuleKind::OpenApi(rule) => (rule.document.memory, 0),
            _ => (0, 0),
        };
        Memory {
            regexes,
            documents,
            keys,
        }
    }
}

impl Memory {
    pub fn total(self) -> usize {
        self.regexes + self.documents + self.keys
    }
}

impl Add for Memory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            regexes: self.regexes + other.regexes,
            documents: self.documents + other.documents,
            keys: self.keys + other.keys,
        }
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
