//! What is wrong, or odd, in a configuration file, and where.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Whether a finding forbids to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and probably does not say what was meant.
    Warning,
}

/// What is wrong with a value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    what: String,
    advice: String,
}

impl Problem {
    /// A problem, as two half sentences.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem { what: what.into(), advice: advice.into() }
    }
}

/// One line of the report: `file:line:column: key: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    file: String,
    /// Line and column, both from 1; the column counts characters. `None` for what is in no line.
    place: Option<(usize, usize)>,
    /// Whether it forbids to start.
    pub severity: Severity,
    key: String,
    problem: Problem,
}

impl Finding {
    /// An error that concerns the file as a whole.
    pub fn of_file(file: &str, problem: Problem) -> Finding {
        Finding { file: file.into(), place: None, severity: Severity::Error, key: "file".into(), problem }
    }

    /// The same, as something odd.
    pub fn into_warning(self) -> Finding {
        Finding { severity: Severity::Warning, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        let mark = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, " {mark}{}: {}; {}", self.key, self.problem.what, self.problem.advice)
    }
}

/// Gathers the findings of one file, and knows the place of every key that was read.
///
/// Keys are dotted and indexed (`route[1].to[0]`) while they are looked up, so that each is found; people see
/// them without the index, because the line says which one it is.
pub struct Findings<'t> {
    file: &'t str,
    text: &'t str,
    places: RefCell<BTreeMap<String, usize>>,
    list: RefCell<Vec<Noted>>,
}

struct Noted {
    offset: usize,
    key: String,
    finding: Finding,
}

impl<'t> Findings<'t> {
    /// No findings about `text`, which stands in `file`.
    pub fn new(file: &'t str, text: &'t str) -> Findings<'t> {
        Findings { file, text, places: RefCell::default(), list: RefCell::default() }
    }

    /// Remembers that `key` stands at the byte `offset`.
    pub fn remember(&self, key: &str, offset: usize) {
        self.places.borrow_mut().insert(key.into(), offset);
    }

    /// Whether `key` stands in the file.
    pub fn is_given(&self, key: &str) -> bool {
        self.places.borrow().contains_key(key)
    }

    /// Whether an error was noted at `key` or below it, so that what is missing there was only misspelt.
    pub fn has_errors_below(&self, key: &str) -> bool {
        let is_error =
            |noted: &Noted| noted.finding.severity == Severity::Error && noted.key.starts_with(key);
        self.list.borrow().iter().any(is_error)
    }

    /// Notes an error at `key`, or at the section that `key` is missing from.
    pub fn error(&self, key: &str, problem: Problem) {
        self.note(Severity::Error, key, self.offset(key), problem);
    }

    /// Notes something odd at `key`.
    pub fn warn(&self, key: &str, problem: Problem) {
        self.note(Severity::Warning, key, self.offset(key), problem);
    }

    /// Notes an error at a byte offset.
    pub fn error_at(&self, offset: usize, key: &str, problem: Problem) {
        self.note(Severity::Error, key, Some(offset), problem);
    }

    /// The findings, in the order of the file.
    pub fn into_list(self) -> Vec<Finding> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|noted| noted.offset);
        list.into_iter().map(|noted| noted.finding).collect()
    }

    fn offset(&self, key: &str) -> Option<usize> {
        let places = self.places.borrow();
        let mut known = key;
        loop {
            if let Some(offset) = places.get(known) {
                return Some(*offset);
            }
            known = known.rsplit_once('.')?.0;
        }
    }

    fn note(&self, severity: Severity, key: &str, offset: Option<usize>, problem: Problem) {
        let place = offset.map(|offset| place(self.text, offset));
        let finding = Finding { file: self.file.into(), place, severity, key: without_index(key), problem };
        let offset = offset.unwrap_or(usize::MAX);
        self.list.borrow_mut().push(Noted { offset, key: key.into(), finding });
    }
}

/// Line and column of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// `route[1].to[0]` as `route.to`.
fn without_index(key: &str) -> String {
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '[');
        let keep = depth == 0;
        depth -= i32::from(*c == ']');
        keep
    };
    key.chars().filter(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\n\u{e9}b\nc";
        let places =
            [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (3, (2, 1)), (4, (2, 2)), (6, (3, 1)), (99, (3, 2))];
        for (offset, expected) in places {
            assert_eq!(place(text, offset), expected, "{offset}");
        }
    }

    #[test]
    fn a_key_that_is_missing_is_reported_at_its_section() {
        let findings = Findings::new("f", "\n[[route]]\n");
        findings.remember("route[0]", 1);
        findings.error("route[0].to", Problem::new("is missing", "add it"));
        findings.warn("hostname", Problem::new("is short", "lengthen it"));
        let lines: Vec<String> = findings.into_list().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["f:2:1: route.to: is missing; add it", "f: warning: hostname: is short; lengthen it"]
        );
    }
}
