//! Reads logs as an auditor would: from the files alone, whoever wrote them, in bounded memory.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use hallmark_core::audit::{
    finding::Verdict,
    line::{Line, Opening},
    walk::{Declared, Knowledge, Walk},
};

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
pub fn walk(chain: &ChainFiles, known: Knowledge<'_>, progress: &mut dyn FnMut(u64)) -> Result<Verdict, ReadError> {
    let said = Said::of(chain)?;
    let mut walk = Walk::new(&chain.instance, known);
    for (index, file) in chain.files.iter().enumerate() {
        walk_file(&mut walk, file, &said.of_file(index, file), progress)
            .map_err(|cause| ReadError::Io { path: file.path.clone(), cause })?;
    }
    Ok(walk.finish())
}

struct OfFile {
    declared: Declared,
    torn: Option<u64>,
}

fn walk_file(walk: &mut Walk<'_>, file: &LogFile, said: &OfFile, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    walk.file(&file.name, said.declared);
    // More than there is can't be torn off.
    let torn = said.torn.filter(|torn| *torn <= file.len);
    let body = file.len - torn.unwrap_or(0);
    let mut reader = Lines::new(File::open(&file.path)?, body);
    while let Some(line) = reader.next_line()? {
        walk.line(line);
        progress(line.len() as u64 + 1);
    }
    let cut = reader.cut;
    if torn.is_some() {
        let mut source = reader.into_source();
        source.seek(SeekFrom::Start(body))?;
        let mut rest = Lines::new(source, file.len - body);
        while let Some(line) = rest.next_line()? {
            walk.beyond(line);
        }
    }
    walk.end_file(cut, torn);
    Ok(())
}

/// What the beginnings of files say of the files before them.
struct Said {
    torn: HashMap<String, u64>,
    void_after: HashMap<String, u64>,
    /// By their place in the chain.
    void: Vec<bool>,
    /// The last file that holds any record.
    last: usize,
}

impl Said {
    fn of(chain: &ChainFiles) -> Result<Self, ReadError> {
        let count = chain.files.len();
        let mut said = Self { torn: HashMap::new(), void_after: HashMap::new(), void: vec![false; count], last: 0 };
        let mut goes_on_after: HashMap<String, usize> = HashMap::new();
        for (index, file) in chain.files.iter().enumerate() {
            let io = |cause| ReadError::Io { path: file.path.clone(), cause };
            let openings = openings(&file.path).map_err(io)?;
            if !openings.is_empty() {
                said.last = index;
            }
            for opening in openings.into_iter().flatten() {
                match opening {
                    Opening::Torn { file, bytes } => _ = said.torn.insert(file, bytes),
                    Opening::Abandoned { file, after } => {
                        said.void_after.insert(file.clone(), after);
                        // A try that failed too, and whose file could not be removed.
                        if let Some(earlier) = goes_on_after.insert(file, index) {
                            said.void[earlier] = true;
                        }
                    }
                    Opening::Begins => {}
                }
            }
        }
        Ok(said)
    }

    fn of_file(&self, index: usize, file: &LogFile) -> OfFile {
        let void_after = self.void_after.get(&file.name).copied();
        let declared = Declared { void_after, void: self.void[index], last: index >= self.last };
        OfFile { declared, torn: self.torn.get(&file.name).copied() }
    }
}

/// The first records of a file, as long as they are about files; `None` for the first one that is not.
fn openings(path: &Path) -> io::Result<Vec<Option<Opening>>> {
    let mut lines = Lines::new(File::open(path)?, u64::MAX);
    let mut found = Vec::new();
    while let Some(line) = lines.next_line()? {
        let opening = Line::parse(line).and_then(|line| line.opening());
        let is_over = opening.is_none() || found.len() == MOST_OPENINGS;
        found.push(opening);
        if is_over {
            break;
        }
    }
    Ok(found)
}

/// Whole lines of a part of a file.
pub struct Lines<R> {
    reader: io::Take<BufReader<R>>,
    line: Vec<u8>,
    /// Bytes behind the last newline, once the end was reached.
    pub cut: u64,
}

impl<R: Read> Lines<R> {
    /// The first `len` bytes of what `source` still gives.
    pub fn new(source: R, len: u64) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, source).take(len), line: Vec::new(), cut: 0 }
    }

    /// The next one, without its newline. One that is longer than any record comes as an empty one, which is none.
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut length = 0;
        loop {
            let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut self.line)? as u64;
            length += read;
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                if length > LONGEST {
                    self.line.clear();
                }
                return Ok(Some(&self.line));
            }
            if read < LONGEST {
                self.cut = length;
                return Ok(None);
            }
            self.line.clear();
        }
    }

    fn into_source(self) -> R {
        self.reader.into_inner().into_inner()
    }
}

const BUFFER: usize = 1 << 20;
/// Far longer than any record, in bytes.
const LONGEST: u64 = 4 << 20;
/// Far more than files that were ever torn in a row.
const MOST_OPENINGS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_never_endless() {
        let endless = "x".repeat(usize::try_from(LONGEST).unwrap() + 10);
        let text = format!("a\n\n{endless}\nb\nrest");
        let mut lines = Lines::new(text.as_bytes(), u64::MAX);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!((seen, lines.cut), (vec!["a".into(), String::new(), String::new(), "b".into()], 4));
    }

    #[test]
    fn names_say_whose_files_they_are() {
        let parsed = |name: &str| parse_name(Path::new(name)).map(|(instance, number, _)| (instance, number));
        assert_eq!(parsed("/x/a-b-00000012.jsonl"), Some(("a-b".to_owned(), 12)));
        for name in ["a.lock", "a-1.jsonl", "-00000001.jsonl", "a-0000000x.jsonl", "a-00000001.json"] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }
}
