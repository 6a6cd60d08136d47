//! The names on a disk: what programs see, what a power failure leaves, and the changes between the two.
//!
//! A power failure keeps any subset of the pending changes that respects their order on each name: when a change
//! is lost, so are all later ones that touch a name of it. Journaling file systems keep more order than that, but
//! do not promise it.

use crate::random::Stream;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
enum Change<T> {
    Create(PathBuf, T),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl<T> Change<T> {
    fn names(&self) -> impl Iterator<Item = &PathBuf> {
        let (first, second) = match self {
            Change::Create(name, _) | Change::Remove(name) => (name, None),
            Change::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    fn touches(&self, names: &BTreeSet<PathBuf>) -> bool {
        self.names().any(|name| names.contains(name))
    }
}

/// Names and what they stand for.
#[derive(Debug)]
pub(crate) struct Names<T> {
    current: BTreeMap<PathBuf, T>,
    durable: BTreeMap<PathBuf, T>,
    /// With the number of each.
    pending: Vec<(u64, Change<T>)>,
    changes: u64,
    directories: BTreeSet<PathBuf>,
}

impl<T: Clone> Names<T> {
    pub(crate) fn new() -> Names<T> {
        let directories = BTreeSet::from([PathBuf::from("/"), PathBuf::new()]);
        let (current, durable) = (BTreeMap::new(), BTreeMap::new());
        Names { current, durable, pending: Vec::new(), changes: 0, directories }
    }

    /// Makes a directory and its parents, durably.
    pub(crate) fn create_directory(&mut self, path: &Path) {
        self.directories.extend(path.ancestors().map(Path::to_owned));
    }

    pub(crate) fn has_directory(&self, path: &Path) -> bool {
        self.directories.contains(path)
    }

    /// The names in a directory, sorted; `None` when there is none.
    pub(crate) fn list(&self, directory: &Path) -> Option<Vec<String>> {
        if !self.has_directory(directory) {
            return None;
        }
        let inside =
            self.current.keys().chain(&self.directories).filter(|path| path.parent() == Some(directory));
        let mut names: Vec<String> =
            inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort();
        Some(names)
    }

    pub(crate) fn get(&self, path: &Path) -> Option<&T> {
        self.current.get(path)
    }

    /// Everything that a name stands for now.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.current.values()
    }

    pub(crate) fn create(&mut self, path: &Path, value: T) {
        self.current.insert(path.to_owned(), value.clone());
        self.change(Change::Create(path.to_owned(), value));
    }

    /// False when there is no `from`.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> bool {
        assert_eq!(from.parent(), to.parent(), "a rename stays within one directory");
        let Some(value) = self.current.remove(from) else { return false };
        self.current.insert(to.to_owned(), value);
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        true
    }

    /// False when there is no such name.
    pub(crate) fn remove(&mut self, path: &Path) -> bool {
        let was_there = self.current.remove(path).is_some();
        if was_there {
            self.change(Change::Remove(path.to_owned()));
        }
        was_there
    }

    fn change(&mut self, change: Change<T>) {
        self.pending.push((self.changes, change));
        self.changes += 1;
    }

    /// How many changes there were: what a sync that begins now covers.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes those of the first `begun` changes durable that are in one directory.
    pub(crate) fn sync(&mut self, directory: &Path, begun: u64) {
        let inside = |change: &Change<T>| change.names().any(|name| name.parent() == Some(directory));
        self.settle(|number, change| number < begun && inside(change));
    }

    /// Makes one name durable, and no other change than those on which it depends.
    pub(crate) fn sync_name(&mut self, path: &Path) {
        let mut names = BTreeSet::from([path.to_owned()]);
        for (_, change) in self.pending.iter().rev() {
            if change.touches(&names) {
                names.extend(change.names().cloned());
            }
        }
        self.settle(|_, change| change.touches(&names));
    }

    fn settle(&mut self, chosen: impl Fn(u64, &Change<T>) -> bool) {
        let settled: Vec<_> =
            self.pending.extract_if(.., |(number, change)| chosen(*number, change)).collect();
        settled.into_iter().for_each(|(_, change)| apply(&mut self.durable, change));
    }

    /// The power fails.
    pub(crate) fn lose_power(&mut self, random: &Stream) {
        let mut lost = BTreeSet::new();
        for (_, change) in std::mem::take(&mut self.pending) {
            if change.touches(&lost) || random.coin() {
                lost.extend(change.names().cloned());
            } else {
                apply(&mut self.durable, change);
            }
        }
        self.current = self.durable.clone();
    }
}

fn apply<T>(names: &mut BTreeMap<PathBuf, T>, change: Change<T>) {
    match change {
        Change::Create(name, value) => {
            names.insert(name, value);
        }
        Change::Remove(name) => {
            names.remove(&name);
        }
        Change::Rename(from, to) => {
            if let Some(value) = names.remove(&from) {
                names.insert(to, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[(&str, u32)]) -> Names<u32> {
        let mut names = Names::new();
        names.create_directory(Path::new("/d"));
        for (path, value) in paths {
            names.create(Path::new(path), *value);
        }
        names.sync(Path::new("/d"), names.changes());
        names
    }

    fn listing(names: &Names<u32>) -> Vec<(String, u32)> {
        let path = |name: &String| Path::new("/d").join(name);
        let all = names.list(Path::new("/d")).expect("the directory");
        all.iter().map(|name| (name.clone(), *names.get(&path(name)).expect("listed"))).collect()
    }

    /// Every outcome of a power failure over many seeds.
    fn outcomes(make: impl Fn() -> Names<u32>) -> BTreeSet<Vec<(String, u32)>> {
        (0..500)
            .map(|seed| {
                let mut names = make();
                names.lose_power(&Stream::new(seed, "power"));
                listing(&names)
            })
            .collect()
    }

    fn shown(outcomes: &BTreeSet<Vec<(String, u32)>>) -> Vec<String> {
        outcomes
            .iter()
            .map(|o| o.iter().map(|(n, v)| format!("{n}{v}")).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn a_rename_is_kept_whole_or_lost_whole() {
        let all = outcomes(|| {
            let mut names = names(&[("/d/a", 1), ("/d/b", 2)]);
            assert!(names.rename(Path::new("/d/a"), Path::new("/d/b")));
            names
        });
        assert_eq!(shown(&all), ["a1 b2", "b1"]);
    }

    #[test]
    fn changes_of_one_name_keep_their_order_and_others_do_not() {
        let all = outcomes(|| {
            let mut names = names(&[("/d/a", 1), ("/d/x", 9)]);
            names.rename(Path::new("/d/a"), Path::new("/d/b"));
            names.rename(Path::new("/d/b"), Path::new("/d/c"));
            names.remove(Path::new("/d/x"));
            names
        });
        assert_eq!(shown(&all), ["a1", "a1 x9", "b1", "b1 x9", "c1", "c1 x9"]);
    }

    #[test]
    fn a_synced_directory_loses_nothing() {
        let all = outcomes(|| {
            let mut names = names(&[("/d/a", 1), ("/d/x", 9)]);
            names.rename(Path::new("/d/a"), Path::new("/d/b"));
            names.remove(Path::new("/d/x"));
            names.sync(Path::new("/d"), names.changes());
            names
        });
        assert_eq!(shown(&all), ["b1"]);
    }

    #[test]
    fn a_sync_covers_only_what_was_there_when_it_began() {
        let all = outcomes(|| {
            let mut names = names(&[("/d/a", 1), ("/d/x", 9)]);
            names.remove(Path::new("/d/x"));
            let begun = names.changes();
            names.remove(Path::new("/d/a"));
            names.sync(Path::new("/d"), begun);
            names
        });
        assert_eq!(shown(&all), ["", "a1"]);
    }

    #[test]
    fn a_synced_name_takes_along_only_what_it_depends_on() {
        let all = outcomes(|| {
            let mut names = names(&[("/d/a", 1), ("/d/x", 9)]);
            names.rename(Path::new("/d/a"), Path::new("/d/b"));
            names.remove(Path::new("/d/x"));
            names.create(Path::new("/d/a"), 2);
            names.sync_name(Path::new("/d/a"));
            names
        });
        assert_eq!(shown(&all), ["a2 b1", "a2 b1 x9"]);
    }
}
