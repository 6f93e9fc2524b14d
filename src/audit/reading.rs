//! Reads logs as an auditor would: from the files alone, whoever wrote them, in bounded memory.
//!
//! - [`find`]: which files are whose;
//! - [`walk`]: what a chain is found to be;
//! - [`Lines`]: its lines;
//! - [`said`]: what files say of those before them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use hallmark_core::audit::{
    finding::Verdict,
    walk::{Knowledge, Walk},
};

pub use self::lines::Lines;
use self::said::{OfFile, Said};

mod lines;
mod said;

/// The files of one chain, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFiles {
    pub instance: String,
    pub files: Vec<LogFile>,
}

/// One file of a chain: `INSTANCE-NUMBER.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub name: String,
    pub number: u64,
    /// As it was when the files were looked for, in bytes: a server may be writing the last one.
    pub len: u64,
}

/// A log that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("can't read `{}`: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("not the name of an audit file: `{}`", .0.display())]
    Name(PathBuf),
    #[error("two files of one chain have one number: `{}` and `{}`", .0.display(), .1.display())]
    Twice(PathBuf, PathBuf),
}

/// The chains of these folders and files, by instance. Other files of a folder are passed over.
pub fn find(places: &[PathBuf]) -> Result<Vec<ChainFiles>, ReadError> {
    let mut found: BTreeMap<String, Vec<LogFile>> = BTreeMap::new();
    for place in places {
        let io = |cause| ReadError::Io { path: place.clone(), cause };
        let is_folder = fs::metadata(place).map_err(io)?.is_dir();
        let paths = match is_folder {
            true => fs::read_dir(place)
                .map_err(io)?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()
                .map_err(io)?,
            false => vec![place.clone()],
        };
        for path in paths {
            match parse_name(&path) {
                Some((instance, number, name)) => {
                    let len = fs::metadata(&path).map_err(io)?.len();
                    found.entry(instance).or_default().push(LogFile { path, name, number, len });
                }
                None if is_folder => {}
                None => return Err(ReadError::Name(path)),
            }
        }
    }
    found.into_iter().map(|(instance, files)| in_order(instance, files)).collect()
}

fn in_order(instance: String, mut files: Vec<LogFile>) -> Result<ChainFiles, ReadError> {
    files.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    files.dedup_by(|a, b| a.path == b.path);
    match files.windows(2).find(|pair| pair[0].number == pair[1].number) {
        Some(pair) => Err(ReadError::Twice(pair[0].path.clone(), pair[1].path.clone())),
        None => Ok(ChainFiles { instance, files }),
    }
}

fn parse_name(path: &Path) -> Option<(String, u64, String)> {
    let name = path.file_name()?.to_str()?;
    let (instance, number) = name.strip_suffix(".jsonl")?.rsplit_once('-')?;
    let is_number = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !instance.is_empty()).then_some(())?;
    Some((instance.to_owned(), number.parse().ok()?, name.to_owned()))
}

/// Walks over a chain. `progress` hears of bytes that were read.
///
/// # Errors
/// Where a file can't be read; what is wrong with its content is found, and no error.
pub fn walk(chain: &ChainFiles, known: Knowledge<'_>, progress: &mut dyn FnMut(u64)) -> Result<Verdict, ReadError> {
    walk_opened(chain, &|file| File::open(&file.path), known, progress)
}

/// Walks over a chain of `instance` whose files, in their order, hold these bytes; for tests and fuzzing.
///
/// # Errors
/// None: nothing is read that could fail.
pub fn try_bytes(instance: &str, files: &[&[u8]], known: Knowledge<'_>) -> Result<Verdict, ReadError> {
    let named = (1..).zip(files).map(|(number, bytes): (u64, _)| {
        let name = format!("{instance}-{number:08}.jsonl");
        LogFile { path: PathBuf::from(&name), name, number, len: bytes.len() as u64 }
    });
    let chain = ChainFiles { instance: instance.to_owned(), files: named.collect() };
    let bytes_of = |file: &LogFile| usize::try_from(file.number - 1).ok().and_then(|index| files.get(index));
    let open = |file: &LogFile| Ok(Cursor::new(bytes_of(file).copied().unwrap_or_default()));
    walk_opened(&chain, &open, known, &mut |_| ())
}

/// Opens a file at its beginning.
type Open<'a, R> = &'a dyn Fn(&LogFile) -> io::Result<R>;

fn walk_opened<R: Read + Seek>(
    chain: &ChainFiles,
    open: Open<'_, R>,
    known: Knowledge<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verdict, ReadError> {
    let said = Said::of(chain, open)?;
    let mut walk = Walk::new(&chain.instance, known);
    for (index, file) in chain.files.iter().enumerate() {
        let source = open(file);
        source
            .and_then(|source| walk_file(&mut walk, file, source, &said.of_file(index, file), progress))
            .map_err(|cause| ReadError::Io { path: file.path.clone(), cause })?;
    }
    Ok(walk.finish())
}

fn walk_file<R: Read + Seek>(
    walk: &mut Walk<'_>,
    file: &LogFile,
    source: R,
    said: &OfFile,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    walk.file(&file.name, said.declared);
    // More than there is can't be torn off.
    let torn = said.torn.filter(|torn| *torn <= file.len);
    let body = file.len - torn.unwrap_or(0);
    let mut lines = Lines::new(source, body);
    while let Some(line) = lines.next_line()? {
        walk.line(line);
        progress(line.len() as u64 + 1);
    }
    let cut = lines.cut;
    if torn.is_some() {
        let mut source = lines.into_source();
        source.seek(SeekFrom::Start(body))?;
        let mut rest = Lines::new(source, file.len - body);
        while let Some(line) = rest.next_line()? {
            walk.beyond(line);
        }
    }
    walk.end_file(cut, torn);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_files_they_are() {
        let parsed = |name: &str| parse_name(Path::new(name)).map(|(instance, number, _)| (instance, number));
        assert_eq!(parsed("/x/a-b-00000012.jsonl"), Some(("a-b".to_owned(), 12)));
        for name in ["a.lock", "a-1.jsonl", "-00000001.jsonl", "a-0000000x.jsonl", "a-00000001.json"] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }
}
