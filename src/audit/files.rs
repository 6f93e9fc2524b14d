//! The files of one chain, and where it ended.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use hallmark_core::audit::{
    Chain, Place,
    line::{Line, Opening},
};

/// Where the files of one chain are: `DIR/INSTANCE-NUMBER.jsonl`, in the order of their numbers.
pub(super) struct Files {
    dir: PathBuf,
    instance: String,
}

/// How a chain ended.
pub(super) struct End {
    pub(super) chain: Chain,
    /// The highest number of a file; 0 where there is none.
    pub(super) last: u64,
    /// Files that end in bytes that continue no chain, and how many.
    pub(super) torn: Vec<(String, u64)>,
}

impl Files {
    pub(super) fn new(dir: &Path, instance: &str) -> Self {
        Self { dir: dir.to_owned(), instance: instance.to_owned() }
    }

    pub(super) fn name(&self, number: u64) -> String {
        format!("{}-{number:08}.jsonl", self.instance)
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(self.name(number))
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.dir.join(format!("{}.lock", self.instance))
    }

    /// Finds the last line that continues the chain: in the last file, or in one before it if that has none.
    pub(super) fn end(&self) -> io::Result<End> {
        let numbers = self.numbers()?;
        let (last, mut chain, mut torn) = (numbers.last().copied().unwrap_or(0), None, vec![]);
        for number in numbers.iter().rev() {
            // A process that was only killed may have left what the system has not written yet. From now on others build
            // on it.
            File::open(self.path(*number))?.sync_all()?;
            let (found, bytes) = self.end_of(*number)?;
            if bytes > 0 {
                torn.push((self.name(*number), bytes));
            }
            let is_there = found.is_some();
            chain = chain.or(found);
            // What a file says that was cut short at its own beginning may not be all that there is to say.
            if is_there && self.has_begun(*number)? {
                break;
            }
        }
        File::open(&self.dir)?.sync_all()?;
        let chain = chain.unwrap_or_else(|| Chain::new(&self.instance));
        let checkpoint = if chain.checkpoint().is_none() { self.last_checkpoint(&numbers)? } else { None };
        Ok(End { chain: chain.with_checkpoint(checkpoint), last, torn })
    }

    /// Whether more stands in it than what it says of torn files: see [`Event::Start`](hallmark_core::audit::Event).
    fn has_begun(&self, number: u64) -> io::Result<bool> {
        let mut reader = BufReader::new(File::open(self.path(number))?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
            let Some(line) = line.strip_suffix(b"\n").and_then(Line::parse) else { return Ok(read as u64 == LONGEST) };
            if !matches!(line.opening(), Some(Opening::Torn { .. })) {
                return Ok(true);
            }
        }
    }

    /// The last checkpoint in the last files that hold records. Each begins with one, but for the first minutes of a process.
    fn last_checkpoint(&self, numbers: &[u64]) -> io::Result<Option<Place>> {
        for number in numbers.iter().rev().take(CHECKPOINT_FILES) {
            let mut reader = BufReader::with_capacity(1 << 20, File::open(self.path(*number))?);
            let (mut line, mut found) = (Vec::new(), None);
            while reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? > 0 {
                let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
                let chain = text.filter(|text| text.contains(CHECKPOINT)).and_then(|t| Chain::after(&self.instance, t));
                found = chain.and_then(|chain| chain.checkpoint().cloned()).or(found);
                line.clear();
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&self.instance)?.strip_prefix('-'));
            numbers.extend(rest.and_then(|rest| rest.strip_suffix(".jsonl")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The chain after the last good line of a file, and the number of bytes behind that line.
    ///
    /// Not simply the last complete line: of what was not synced before a power cut, any page may be missing, also
    /// one before others. Only the last batch can be, and [`WINDOW`] is more than one.
    fn end_of(&self, number: u64) -> io::Result<(Option<Chain>, u64)> {
        let mut file = File::open(self.path(number))?;
        let len = file.metadata()?.len();
        let start = len.saturating_sub(WINDOW);
        file.seek(SeekFrom::Start(start))?;
        let (mut reader, mut line, mut good) = (BufReader::new(file), Vec::new(), start);
        if start > 0 {
            good += reader.read_until(b'\n', &mut line)? as u64;
        }
        let mut chain = None;
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            let next = text.and_then(|text| match &chain {
                None => Chain::after(&self.instance, text),
                Some(chain) => Chain::follow(chain, text),
            });
            if next.is_none() {
                break;
            }
            (chain, good) = (next, good + read as u64);
        }
        if chain.is_none() && start > 0 {
            let text = format!("the last {} MiB of `{}` hold no line of this log", WINDOW >> 20, self.name(number));
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok((chain, len - good))
    }
}

const WINDOW: u64 = 32 << 20;
/// Far longer than any record.
const LONGEST: u64 = 4 << 20;
/// Files that are searched for the last checkpoint.
const CHECKPOINT_FILES: usize = 4;
/// No string in a record can hold it: its quotes would be escaped.
const CHECKPOINT: &str = r#""event":"checkpoint""#;
