//! Reads one table of the configuration, key by key.
//!
//! A section knows the keys it was asked for. When its reader is done, every other key in it is an error: so the
//! parser is the only list of keys, and none can be documented, allowed or suggested that nobody reads.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    json,
    problem::{At, Place, Problems},
    source::Source,
    value::{Mismatch, Setting, nearest, show_duration, type_of},
};

pub(super) struct Section<'a> {
    source: &'a Source,
    problems: &'a Problems,
    table: &'a DeTable<'a>,
    place: Place,
    /// As messages show it: `[grpc]`, `[[client]]`; empty for the file itself.
    shown: String,
    /// As [`Problems::know`] lists it: `grpc.tls`.
    path: String,
    asked: RefCell<Vec<&'static str>>,
    refused: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// Reads the whole of a file.
    pub(super) fn document<T>(
        source: &'a Source,
        document: &'a Spanned<DeTable<'a>>,
        problems: &'a Problems,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> T {
        let place = Place { line: None, ..source.place(0) };
        let section = Section::new(source, problems, document.get_ref(), place, String::new(), String::new());
        section.read(read)
    }

    /// The value of `key`; `None` where it is absent or (reported) wrong.
    pub(super) fn get<T: Setting>(&self, key: &'static str) -> Option<At<T>> {
        let (place, value) = self.ask(key)?;
        match T::from_value(value, self.source) {
            Ok(value) => Some(At { value, place }),
            Err(Mismatch { what, hint }) => {
                self.problems.error(&place, format!("{}: {what}", self.name(key)), hint);
                None
            }
        }
    }

    /// Like [`Self::get`]; absence is an error, whose hint shows `example`.
    pub(super) fn required<T: Setting>(&self, key: &'static str, example: &str) -> Option<At<T>> {
        if !self.has(key) {
            self.know(key);
            let what = format!("{} is missing", self.name(key));
            self.problems.error(&self.place, what, format!("add `{key} = {example}`"));
        }
        self.get(key)
    }

    /// Like [`Self::get`], for lists that must have an element.
    pub(super) fn some_of<T: Setting>(&self, key: &'static str, example: &str) -> Option<At<Vec<T>>>
    where
        Vec<T>: Setting,
    {
        let list = self.required::<Vec<T>>(key, example)?;
        if list.value.is_empty() {
            self.problems.error(
                &list.place,
                format!("{} is empty", self.name(key)),
                format!("write `{key} = {example}`"),
            );
        }
        Some(list)
    }

    /// A value within `range`, or `default`.
    pub(super) fn within<T: Setting + PartialOrd + Shown>(
        &self,
        key: &'static str,
        default: T,
        range: &RangeInclusive<T>,
    ) -> T {
        let Some(At { value, place }) = self.get::<T>(key) else { return default };
        if !range.contains(&value) {
            let what = format!("{} is out of range: `{}`", self.name(key), value.shown());
            let hint = format!("it can be `{}` to `{}`", range.start().shown(), range.end().shown());
            self.problems.error(&place, what, hint);
        }
        value
    }

    /// The table `key`; `None` where it is absent.
    pub(super) fn table<T>(&self, key: &'static str, read: impl FnOnce(&Section<'_>) -> T) -> Option<T> {
        let (place, value) = self.ask(key)?;
        self.child(key, value, place, format!("[{}]", self.path_of(key))).map(|section| section.read(read))
    }

    /// The table `key`, read as an empty one where it is absent, so that what it requires is missed.
    pub(super) fn table_or_empty<T>(&self, key: &'static str, read: impl FnOnce(&Section<'_>) -> T) -> Option<T> {
        if self.has(key) {
            return self.table(key, read);
        }
        let (empty, shown) = (DeTable::new(), format!("[{}]", self.path_of(key)));
        self.know(key);
        let section = Section::new(self.source, self.problems, &empty, self.place.clone(), shown, self.path_of(key));
        Some(section.read(read))
    }

    /// Each table of the array `key`, in their order.
    pub(super) fn tables(&self, key: &'static str, mut read: impl FnMut(&Section<'_>)) {
        let Some((place, value)) = self.ask(key) else { return };
        let shown = format!("[[{}]]", self.path_of(key));
        let DeValue::Array(array) = value else {
            let what = format!("{} must be an array of tables, not {}", self.name(key), type_of(value));
            return self.problems.error(&place, what, format!("head each with `{shown}`"));
        };
        for item in array {
            let place = self.source.place(item.span().start);
            if let Some(section) = self.child(key, item.get_ref(), place, shown.clone()) {
                section.read(&mut read);
            }
        }
    }

    /// The table `key` as names and texts, whatever the names.
    pub(super) fn texts(&self, key: &'static str) -> Option<At<BTreeMap<String, String>>> {
        let (place, value) = self.ask(key)?;
        let section = self.child(key, value, place.clone(), format!("[{}]", self.path_of(key)))?;
        let mut texts = BTreeMap::new();
        for (name, value) in section.table {
            match String::from_value(value.get_ref(), self.source) {
                Ok(text) => _ = texts.insert(name.get_ref().to_string(), text),
                Err(Mismatch { what, hint }) => {
                    let place = self.source.place(value.span().start);
                    self.problems.error(&place, format!("`{}` in {}: {what}", name.get_ref(), section.shown), hint);
                }
            }
        }
        Some(At { value: texts, place })
    }

    /// The table `key` as JSON, each value as its TOML says; `None` where it is absent or (reported) wrong.
    pub(super) fn json(&self, key: &'static str) -> Option<At<serde_json::Map<String, serde_json::Value>>> {
        let (place, value) = self.ask(key)?;
        let section = self.child(key, value, place.clone(), format!("[{}]", self.path_of(key)))?;
        match json::object(section.table) {
            Ok(value) => Some(At { value, place }),
            Err(Mismatch { what, hint }) => {
                self.problems.error(&place, format!("{}: {what}", self.name(key)), hint);
                None
            }
        }
    }

    /// Refuses `key` with words of its own; it is not one of the known keys. The value is never shown.
    pub(super) fn refuse(&self, key: &'static str, what: &str, hint: &str) {
        self.refused.borrow_mut().push(key);
        if let Some((name, _)) = self.table.get_key_value(key) {
            self.problems.error(&self.source.place(name.span().start), format!("{} {what}", self.name(key)), hint);
        }
    }

    pub(super) fn error(&self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.problems.error(place, what, hint);
    }

    pub(super) fn warn(&self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.problems.warn(place, what, hint);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let list = self.table.get(key).and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// `path`, seen from the folder of the main file.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.source.resolve(path)
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where `key` stands, or the section where it is absent.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let found = self.table.get_key_value(key);
        found.map_or_else(|| self.place.clone(), |(name, _)| self.source.place(name.span().start))
    }

    fn new(
        source: &'a Source,
        problems: &'a Problems,
        table: &'a DeTable<'a>,
        place: Place,
        shown: String,
        path: String,
    ) -> Self {
        Self { source, problems, table, place, shown, path, asked: RefCell::default(), refused: RefCell::default() }
    }

    fn child<'b>(&'b self, key: &str, value: &'b DeValue<'b>, place: Place, shown: String) -> Option<Section<'b>> {
        let DeValue::Table(table) = value else {
            let (each, inline) = if shown.starts_with("[[") { ("each of ", "[{ … }]") } else { ("", "{ … }") };
            let what = format!("{each}{} must be a table, not {}", self.name(key), type_of(value));
            self.problems.error(&place, what, format!("head it with `{shown}`, or write `{key} = {inline}`"));
            return None;
        };
        Some(Section::new(self.source, self.problems, table, place, shown, self.path_of(key)))
    }

    fn read<T>(&self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let value = read(self);
        self.report_unknown();
        value
    }

    fn report_unknown(&self) {
        let (asked, refused) = (self.asked.borrow(), self.refused.borrow());
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            if asked.contains(&key) || refused.contains(&key) {
                continue;
            }
            let place = self.source.place(name.span().start);
            let within = if self.shown.is_empty() { String::new() } else { format!(" in {}", self.shown) };
            self.problems.error(&place, format!("unknown key{within}: `{key}`"), nearest(key, &asked));
        }
    }

    fn ask(&self, key: &'static str) -> Option<(Place, &DeValue<'a>)> {
        self.know(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some((self.source.place(name.span().start), value.get_ref()))
    }

    fn know(&self, key: &'static str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
            self.problems.know(self.path_of(key));
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn name(&self, key: &str) -> String {
        if self.shown.is_empty() { format!("`{key}`") } else { format!("`{key}` in {}", self.shown) }
    }
}

/// How a bound is shown.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Duration {
    fn shown(&self) -> String {
        show_duration(*self)
    }
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}
