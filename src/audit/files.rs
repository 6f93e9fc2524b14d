//! The files of one chain, and where it ended.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use hallmark_core::audit::Chain;

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
        let mut end =
            End { chain: Chain::new(&self.instance), last: numbers.last().copied().unwrap_or(0), torn: vec![] };
        for number in numbers.into_iter().rev() {
            let (chain, torn) = self.end_of(number)?;
            if torn > 0 {
                end.torn.push((self.name(number), torn));
            }
            if let Some(chain) = chain {
                end.chain = chain;
                break;
            }
        }
        Ok(end)
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
