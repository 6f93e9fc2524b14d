//! What the beginnings of files say of the files before them: each start, and each failure, says how the last file ended.

use std::{
    collections::HashMap,
    io::{self, Read},
};

use hallmark_core::audit::{
    line::{Line, Opening},
    walk::Declared,
};

use super::{ChainFiles, Lines, LogFile, Open, ReadError};

/// All that is said in one chain.
pub(super) struct Said {
    torn: HashMap<String, u64>,
    void_after: HashMap<String, u64>,
    /// By their place in the chain.
    void: Vec<bool>,
    /// The last file that holds any record.
    last: usize,
}

impl Said {
    pub(super) fn of<R: Read>(chain: &ChainFiles, open: Open<'_, R>) -> Result<Self, ReadError> {
        let count = chain.files.len();
        let mut said = Self { torn: HashMap::new(), void_after: HashMap::new(), void: vec![false; count], last: 0 };
        let mut goes_on_after = HashMap::new();
        for (index, file) in chain.files.iter().enumerate() {
            let openings = open(file).and_then(openings);
            let openings = openings.map_err(|cause| ReadError::Io { path: file.path.clone(), cause })?;
            if !openings.is_empty() {
                said.last = index;
            }
            openings.into_iter().flatten().for_each(|opening| said.take(opening, index, &mut goes_on_after));
        }
        Ok(said)
    }

    /// `index`: of the file that says it. `goes_on_after`: which one went on where another failed, so far.
    fn take(&mut self, opening: Opening, index: usize, goes_on_after: &mut HashMap<String, usize>) {
        match opening {
            Opening::Torn { file, bytes } => _ = self.torn.insert(file, bytes),
            Opening::Abandoned { file, after } => {
                self.void_after.insert(file.clone(), after);
                // A try that failed too, and whose file could not be removed.
                if let Some(earlier) = goes_on_after.insert(file, index) {
                    self.void[earlier] = true;
                }
            }
            Opening::Begins => {}
        }
    }

    pub(super) fn of_file(&self, index: usize, file: &LogFile) -> OfFile {
        let void_after = self.void_after.get(&file.name).copied();
        let declared = Declared { void_after, void: self.void[index], last: index >= self.last };
        OfFile { declared, torn: self.torn.get(&file.name).copied() }
    }
}

/// What is said of one file.
pub(super) struct OfFile {
    pub(super) declared: Declared,
    /// So many bytes at its end are what a crash left.
    pub(super) torn: Option<u64>,
}

/// The first records of a file, as long as they are about files; `None` for the first one that is not.
fn openings(source: impl Read) -> io::Result<Vec<Option<Opening>>> {
    let mut lines = Lines::new(source, u64::MAX);
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

/// Far more than files that were ever torn in a row.
const MOST_OPENINGS: usize = 1000;
