//! The files: the main one, and `clients.d/*.toml` beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use toml::{Spanned, de::DeTable};

use super::problem::{Place, Problems};

/// A configuration file as read from disk.
#[derive(Debug)]
pub(super) struct Source {
    /// As the user named it: what messages show.
    path: Rc<Path>,
    /// The folder of the main file, absolute: what relative paths start from, in every file.
    folder: PathBuf,
    text: String,
    /// Where each line but the first begins.
    lines: Vec<usize>,
}

impl Source {
    /// The main file, then those of `clients.d` in the order of their names. `None` where one can't be read.
    pub(super) fn read_all(path: &Path, problems: &Problems) -> Option<Vec<Self>> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned());
        let main = Self::read(path, &folder, problems);
        let others: Vec<_> = files_in(&parent.join(PARTS), problems)?;
        let others = others.iter().map(|path| Self::read(path, &folder, problems));
        // Collected before it is judged, so that every unreadable file is named.
        let all: Vec<_> = [main].into_iter().chain(others).collect();
        all.into_iter().collect()
    }

    pub(super) fn new(path: &Path, folder: &Path, text: String) -> Self {
        let lines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect();
        Self { path: path.into(), folder: folder.to_owned(), text, lines }
    }

    fn read(path: &Path, folder: &Path, problems: &Problems) -> Option<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Some(Self::new(path, folder, text)),
            Err(error) => {
                unreadable(path, &error, problems);
                None
            }
        }
    }

    /// The document with the place of each value; syntax errors are reported, and nothing is returned then: what a
    /// broken file seems to say would only raise more complaints.
    pub(super) fn parse(&self, problems: &Problems) -> Option<Spanned<DeTable<'_>>> {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            let place = self.place(error.span().map_or(self.text.len(), |span| span.start));
            let what = format!("not TOML: {}", error.message().trim_end_matches('.').replace('\n', "; "));
            problems.error(&place, what, "text stands in quotes, and each key stands once in its section");
        }
        errors.is_empty().then_some(document)
    }

    pub(super) fn place(&self, offset: usize) -> Place {
        let line = 1 + self.lines.partition_point(|begin| *begin <= offset);
        Place { file: Rc::clone(&self.path), line: Some(line) }
    }

    /// As the user named it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `path`, seen from the folder of the main file.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        // By components, so that `./x` is shown and compared as `x`.
        self.folder.join(path).components().collect()
    }
}

/// The folder beside the main file that holds the others.
pub(super) const PARTS: &str = "clients.d";

fn files_in(folder: &Path, problems: &Problems) -> Option<Vec<PathBuf>> {
    let listed = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>());
    match listed {
        Ok(mut paths) => {
            // Hidden files are what editors leave while one is being written.
            paths.retain(|path| path.extension().is_some_and(|ext| ext == "toml") && !is_hidden(path));
            paths.sort();
            Some(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(error) => {
            unreadable(folder, &error, problems);
            None
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn unreadable(path: &Path, error: &io::Error, problems: &Problems) {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "give the path of an existing file; `hsm-config/basic.toml` is one to start from",
        io::ErrorKind::PermissionDenied => "let the service's user read it, e.g. by group and mode 0640",
        io::ErrorKind::InvalidData => "save it as UTF-8 text",
        _ => "see that the path is right and the disk answers",
    };
    let place = Place { file: path.into(), line: None };
    problems.error(&place, format!("can't be read: {error}"), hint);
}
