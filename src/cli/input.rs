//! Files that a command is given.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{Failure, consent::quoted};

/// The bytes of a file; `-` is standard input. One byte more than `most` at most, so that what is too long is seen to be.
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let done = match path.as_os_str() == "-" {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    done.map(|_| bytes).map_err(|error| unreadable(format!("can't read `{}`", path.display()), path, &error))
}

/// A file or a folder that was named, and can't be read: `what` says which, the rest follows from why.
pub(super) fn unreadable(what: String, path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(what).caused_by(error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = |path: &Path| quoted(&path.display().to_string());
    match error.kind() {
        io::ErrorKind::NotFound => {
            failure.hint(format!("is the path right? see what is there: ls -la {}", shown(folder)))
        }
        io::ErrorKind::PermissionDenied => {
            failure.hint(format!("this user may not read it: ls -la {}; run the command as one who may", shown(folder)))
        }
        io::ErrorKind::IsADirectory => failure.hint(format!("name a file in it: ls -la {}", shown(path))),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_comes_with_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no such.jws");
        let said = read(&missing, 10).unwrap_err().render(false);
        assert!(said.contains("No such file") && said.contains("no such.jws"), "{said}");
        assert!(
            said.contains(&format!("hint: is the path right? see what is there: ls -la {}", folder.path().display())),
            "{said}"
        );
        let said = read(folder.path(), 10).unwrap_err().render(false);
        assert!(said.contains("hint: name a file in it"), "{said}");
        // A name alone is in the folder that one is in.
        let said = read(Path::new("no-such-file"), 10).unwrap_err().render(false);
        assert!(said.ends_with("ls -la .\n"), "{said:?}");
    }
}
