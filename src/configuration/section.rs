//! Reads tables of a TOML document key by key.
//!
//! A key is named once, where it is read: what was never asked for is unknown. The usual derived structures
//! stop at the first unknown key or wrong type; a file is repaired faster when everything is said at once.

use super::finding::{Findings, Problem};
use std::cell::RefCell;
use toml::de::{DeTable, DeValue};

/// Turns a TOML value into what it means.
pub type Parse<T> = fn(&DeValue<'_>) -> Result<T, Problem>;

/// A value with the key that it came from, to which later findings are pinned.
#[derive(Clone, Debug)]
pub struct Keyed<T> {
    /// The dotted and indexed key.
    pub key: String,
    /// The value.
    pub value: T,
}

/// A table that is being read.
pub struct Section<'t> {
    /// The dotted and indexed key of the table; empty for the document.
    pub key: String,
    table: Option<&'t DeTable<'t>>,
    findings: &'t Findings<'t>,
    known: RefCell<Vec<&'static str>>,
}

impl<'t> Section<'t> {
    /// The document itself.
    pub fn document(table: &'t DeTable<'t>, findings: &'t Findings<'t>) -> Section<'t> {
        Section::new(String::new(), Some(table), findings)
    }

    fn new(key: String, table: Option<&'t DeTable<'t>>, findings: &'t Findings<'t>) -> Section<'t> {
        Section { key, table, findings, known: RefCell::default() }
    }

    /// The dotted key of `key` in this table.
    pub fn key_of(&self, key: &str) -> String {
        if self.key.is_empty() { key.into() } else { format!("{}.{key}", self.key) }
    }

    /// Reads `key` into `into`, which keeps its default when the key is absent or wrong.
    pub fn read<T>(&self, key: &'static str, parse: Parse<T>, into: &mut T) {
        if let Some(value) = self.value(key).and_then(|value| self.parse(&self.key_of(key), value, parse)) {
            *into = value;
        }
    }

    /// Reads `key`, which must be there.
    pub fn required<T>(&self, key: &'static str, parse: Parse<T>, example: &str) -> Option<T> {
        let Some(value) = self.value(key) else {
            self.findings
                .error(&self.key_of(key), Problem::new("is missing", format!("add {key} = {example}")));
            return None;
        };
        self.parse(&self.key_of(key), value, parse)
    }

    /// Reads the array `key`, without the elements that are wrong; `None` when the key is absent.
    pub fn list<T>(&self, key: &'static str, parse: Parse<T>) -> Option<Vec<Keyed<T>>> {
        let dotted = self.key_of(key);
        let Some(array) = self.value(key)?.as_array() else {
            self.findings.error(&dotted, Problem::new("is no array", "write the value in [brackets]"));
            return Some(Vec::new());
        };
        let element = |(index, value): (usize, &'t toml::Spanned<DeValue<'t>>)| {
            let key = format!("{dotted}[{index}]");
            self.findings.remember(&key, value.span().start);
            let value = self.parse(&key, value.get_ref(), parse)?;
            Some(Keyed { key, value })
        };
        Some(array.iter().enumerate().filter_map(element).collect())
    }

    /// The table `key`, which reads as empty when it is absent.
    pub fn section(&self, key: &'static str) -> Section<'t> {
        let value = self.value(key);
        let table = value.and_then(DeValue::as_table);
        if value.is_some() && table.is_none() {
            let advice = format!("write a line [{key}] and its keys below");
            self.findings.error(&self.key_of(key), Problem::new("is no table", advice));
        }
        Section::new(self.key_of(key), table, self.findings)
    }

    /// The tables of the array `key`; `None` when it is absent or no array of tables.
    pub fn sections(&self, key: &'static str) -> Option<Vec<Section<'t>>> {
        let value = self.value(key)?;
        let tables = value
            .as_array()
            .map(|array| array.iter().map(|element| (element.span(), element.get_ref().as_table())));
        let mut sections = Vec::new();
        for (index, (span, table)) in tables.into_iter().flatten().enumerate() {
            let dotted = format!("{}[{index}]", self.key_of(key));
            self.findings.remember(&dotted, span.start);
            sections.push(table.map(|table| Section::new(dotted, Some(table), self.findings)));
        }
        let sections: Option<Vec<Section<'t>>> = sections.into_iter().collect();
        if sections.is_none() || !value.is_array() {
            let advice = format!("write a line [[{key}]], with two brackets, for each one");
            self.findings.error(&self.key_of(key), Problem::new("is no array of tables", advice));
            return None;
        }
        sections
    }

    /// Ends reading: every key that was not asked for is unknown.
    pub fn end(self) {
        let known = self.known.borrow();
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            if !known.contains(&key.get_ref().as_ref()) {
                let dotted = self.key_of(key.get_ref());
                let problem = Problem::new("is no key of mtad", suggestion(key.get_ref(), &known));
                self.findings.error_at(key.span().start, &dotted, problem);
            }
        }
    }

    fn value(&self, key: &'static str) -> Option<&'t DeValue<'t>> {
        self.known.borrow_mut().push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        // A table has no place of its own when it was opened by a header further down: its name has.
        let place =
            if value.get_ref().is_table() || value.get_ref().is_array() { name.span() } else { value.span() };
        self.findings.remember(&self.key_of(key), place.start);
        Some(value.get_ref())
    }

    fn parse<T>(&self, key: &str, value: &DeValue<'_>, parse: Parse<T>) -> Option<T> {
        parse(value).map_err(|problem| self.findings.error(key, problem)).ok()
    }
}

/// The known key that was probably meant, or all of them.
fn suggestion(unknown: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|key| (distance(unknown, key), *key)).min();
    match nearest {
        Some((edits, key)) if edits <= 1 + key.len() / 4 => format!("perhaps {key} was meant"),
        _ => format!("remove it, or use one of {}", known.join(", ")),
    }
}

/// How many letters must be added, dropped or changed to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (from, to, edits) in [("", "", 0), ("a", "", 1), ("path", "pth", 1), ("kitten", "sitting", 3)] {
            assert_eq!((distance(from, to), distance(to, from)), (edits, edits), "{from} {to}");
        }
    }

    #[test]
    fn only_a_near_key_is_suggested() {
        assert_eq!(suggestion("adress", &["address", "relay_to"]), "perhaps address was meant");
        assert_eq!(suggestion("tls", &["path", "spares_max"]), "remove it, or use one of path, spares_max");
    }
}
