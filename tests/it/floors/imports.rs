//! Who imports whom in a tree of Rust sources, by text: `use` with its groups and aliases, paths in the code, re-exports.
//! Unit tests (`mod tests`, `tests.rs`) may name what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// All files below `src`, by their path from there.
pub fn read(src: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(src).unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The folder or file of src that a file belongs to.
pub fn part(file: &Path) -> String {
    let first = file.components().next().unwrap();
    Path::new(&first).file_stem().unwrap().to_str().unwrap().to_owned()
}

type Module = Vec<String>;

/// A tree of sources with its imports.
pub struct Source {
    files: BTreeMap<PathBuf, Uses>,
    modules: BTreeMap<Module, PathBuf>,
}

impl Source {
    pub fn new(files: BTreeMap<PathBuf, String>) -> Self {
        let files: BTreeMap<_, _> = files
            .into_iter()
            .filter(|(file, _)| !file.iter().any(|part| part == "tests.rs" || part == "tests"))
            .map(|(file, text)| (file, Uses::of(&text)))
            .collect();
        let modules = files.keys().map(|file| (module(file), file.clone())).collect();
        Self { files, modules }
    }

    pub fn files(&self) -> impl Iterator<Item = (&Path, &Uses)> {
        self.files.iter().map(|(file, uses)| (file.as_path(), uses))
    }

    /// The parts below the roots of library and binary.
    pub fn parts(&self) -> BTreeSet<String> {
        let parts = self.files.keys().map(|file| part(file));
        parts.filter(|part| part != "lib" && part != "main").collect()
    }

    /// Pairs of files: the first names something that the second defines.
    pub fn edges(&self) -> BTreeSet<(PathBuf, PathBuf)> {
        self.pairs(true)
    }

    /// Pairs of files: the first names something by the second, which may have it from elsewhere.
    pub fn named(&self) -> BTreeSet<(PathBuf, PathBuf)> {
        self.pairs(false)
    }

    fn pairs(&self, through: bool) -> BTreeSet<(PathBuf, PathBuf)> {
        let mut edges = BTreeSet::new();
        for (file, uses) in &self.files {
            if matches!(part(file).as_str(), "lib" | "main") {
                continue;
            }
            for path in &uses.paths {
                let to = self.resolve(&module(file), path, through, 0);
                edges.extend(to.filter(|to| to != file).map(|to| (file.clone(), to)));
            }
        }
        edges
    }

    /// Files that import each other in a ring, of one part each. That a module declares its children is no import.
    pub fn rings(&self) -> Vec<Vec<String>> {
        let edges = self.edges();
        let reach = |from: &PathBuf| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(file) = next.pop() {
                let steps = edges
                    .iter()
                    .filter(|(from, to)| *from == file && part(from) == part(to));
                next.extend(
                    steps
                        .filter(|(_, to)| seen.insert(to.clone()))
                        .map(|(_, to)| to.clone()),
                );
            }
            seen
        };
        let reached: BTreeMap<_, _> = self.files.keys().map(|file| (file, reach(file))).collect();
        let mut rings = BTreeSet::new();
        for (file, seen) in &reached {
            let ring: Vec<_> = seen
                .iter()
                .filter(|other| reached[other].contains(*file))
                .map(|other| other.to_str().unwrap().to_owned())
                .collect();
            if ring.len() > 1 {
                rings.insert(ring);
            }
        }
        rings.into_iter().collect()
    }

    /// The file that defines what `path` means in `module`, or by which it is named if re-exports are not looked through;
    /// None: it is another crate's, or local.
    fn resolve(&self, module: &[String], path: &[String], through: bool, depth: usize) -> Option<PathBuf> {
        let (mut at, mut rest): (Module, &[String]) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), &path[1..]),
            first => {
                let uses = &self.files[self.modules.get(module)?];
                let child = [module, &[first.to_owned()]].concat();
                if self.modules.contains_key(&child) {
                    (child, &path[1..])
                } else {
                    // An alias: what it stands for, and the rest of the path.
                    let target = uses.aliases.get(first)?;
                    if depth > 8 || target.first() == path.first() {
                        return None;
                    }
                    return self.resolve(module, &[target.as_slice(), &path[1..]].concat(), through, depth + 1);
                }
            }
        };
        while rest.first().is_some_and(|name| name == "super") {
            at.pop();
            rest = &rest[1..];
        }
        while let Some(name) = rest.first() {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if !self.modules.contains_key(&child) {
                break;
            }
            at = child;
            rest = &rest[1..];
        }
        let file = self.modules.get(&at)?;
        match rest.first().and_then(|name| self.files[file].aliases.get(name)) {
            // Re-exported: it is defined elsewhere.
            Some(target) if through && depth < 8 => self
                .resolve(&at, target, through, depth + 1)
                .or_else(|| Some(file.clone())),
            _ => Some(file.clone()),
        }
    }
}

fn module(file: &Path) -> Module {
    let mut names: Module = file
        .with_extension("")
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    if names
        .last()
        .is_some_and(|last| last == "mod" || last == "lib" && names.len() == 1)
    {
        names.pop();
    }
    names
}

/// What one file names.
pub struct Uses {
    /// Every path of more than one name, groups expanded.
    paths: BTreeSet<Vec<String>>,
    /// What `use` brings in, by the name that it has here.
    aliases: BTreeMap<String, Vec<String>>,
    words: BTreeSet<String>,
}

impl Uses {
    pub fn of(text: &str) -> Self {
        let code = without_tests(&code_only(text));
        let tokens = tokens(&code);
        let mut uses = Self {
            paths: BTreeSet::new(),
            aliases: BTreeMap::new(),
            words: tokens.iter().cloned().collect(),
        };
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                at = uses.tree(&tokens, at + 1, &[]);
            } else if is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::" && tokens[at - 1] != ".") {
                let mut path = vec![tokens[at].clone()];
                while tokens.get(at + 1).is_some_and(|token| token == "::")
                    && tokens.get(at + 2).is_some_and(|token| is_name(token))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                if path.len() > 1 {
                    uses.paths.insert(path);
                }
                at += 1;
            } else {
                at += 1;
            }
        }
        uses
    }

    /// Whether it names a word, or a path that begins so.
    pub fn names(&self, word: &str) -> bool {
        let wanted: Vec<_> = word.split("::").collect();
        match wanted.as_slice() {
            [word] => self.words.contains(*word),
            wanted => self
                .paths
                .iter()
                .any(|path| path.len() >= wanted.len() && path.iter().zip(wanted).all(|(name, wanted)| name == wanted)),
        }
    }

    /// One tree of a `use`, from `at` on; returns where it ends.
    fn tree(&mut self, tokens: &[String], mut at: usize, before: &[String]) -> usize {
        let mut path = before.to_vec();
        while let Some(token) = tokens.get(at) {
            match token.as_str() {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while tokens.get(at).is_some_and(|token| token != "}") {
                        at = self.tree(tokens, at, &path);
                        if tokens.get(at).is_some_and(|token| token == ",") {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "as" => {
                    self.bring(path.clone(), tokens.get(at + 1).cloned());
                    return at + 2;
                }
                "*" => {
                    self.paths.insert(path);
                    return at + 1;
                }
                name if is_name(name) => {
                    path.push(name.to_owned());
                    at += 1;
                }
                _ => break,
            }
        }
        if path.len() > before.len() {
            self.bring(path, None);
        }
        at
    }

    fn bring(&mut self, mut path: Vec<String>, alias: Option<String>) {
        if path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        if let Some(name) = alias.or_else(|| path.last().cloned()) {
            self.aliases.insert(name, path.clone());
        }
        self.paths.insert(path);
    }
}

fn is_name(token: &str) -> bool {
    token
        .chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && token != "use"
        && token != "as"
}

/// Names, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_part(first) {
            rest.find(|c| !is_part(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Without the file's own `mod tests`, which stands last.
fn without_tests(code: &str) -> String {
    match code.find("\n#[cfg(test)]\n") {
        Some(at) if code[at..].contains("mod ") => code[..at].to_owned(),
        _ => code.to_owned(),
    }
}

/// Comments and literals blanked out.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[length..];
    }
    code
}

/// The length of the literal at the start, quotes included. Raw strings with quotes inside end early, which can only show too much.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
