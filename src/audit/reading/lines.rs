//! Lines of files that anyone may have written, in bounded memory.

use std::io::{self, BufRead, BufReader, Read};

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

    /// Where it stands is anywhere: what was read ahead is gone.
    pub(super) fn into_source(self) -> R {
        self.reader.into_inner().into_inner()
    }
}

const BUFFER: usize = 1 << 20;
/// Far longer than any record, in bytes.
const LONGEST: u64 = 4 << 20;

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
}
