//! Why a file can't be loaded as a PKCS#11 module, in better words than the linker's.

use std::{fs, io::Read, path::Path};

/// What keeps the file at `path` from being a module for this program, before it is loaded: the reason and what to do.
/// What only the linker can say (a library that it needs and that is not there, a symbol) is left to it.
pub fn refuse_to_load(path: &Path) -> Result<(), (String, String)> {
    let shown = path.display();
    if !path.is_absolute() {
        let found = path.canonicalize().map(|found| format!("hallmark hsm probe {}", found.display()));
        let hint = found.unwrap_or_else(|_| "write the whole path, such as /usr/lib/softhsm/libsofthsm2.so".to_owned());
        return refused(format!("`{shown}` is not an absolute path, and the server may run in another folder"), hint);
    }
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) => {
            return refused(format!("`{shown}`: {error}"), "is its package installed, and the path right?".to_owned());
        }
    };
    if !about.is_file() {
        let hint = "name the HSM maker's PKCS#11 library itself, a file that ends in .so".to_owned();
        return refused(format!("`{shown}` is not a file"), hint);
    }
    let mut head = [0; 20];
    match fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return refused(
                format!("`{shown}`: {error}"),
                "the user that runs hallmark must be able to read it".to_owned(),
            );
        }
        _ => {}
    }
    judge_head(&head).map_err(|why| {
        let hint = format!("name the HSM maker's PKCS#11 library (.so) for {}", std::env::consts::ARCH);
        (format!("`{shown}` {why}"), hint)
    })
}

fn refused(why: String, hint: String) -> Result<(), (String, String)> {
    Err((why, hint))
}

/// The first bytes of an ELF file (`elf.h`): magic, class, order of bytes, …, machine.
fn judge_head(head: &[u8; 20]) -> Result<(), String> {
    let Some(rest) = head.strip_prefix(b"\x7fELF") else {
        return Err(match head {
            [0xcf, 0xfa, 0xed, 0xfe, ..] => "is a library for macOS, not for Linux".to_owned(),
            [b'M', b'Z', ..] => "is a library for Windows, not for Linux".to_owned(),
            head if head.starts_with(b"!<arch>") => {
                "is a static library (.a); the shared one (.so) is needed".to_owned()
            }
            _ => "is not a library: it does not begin as an ELF file does".to_owned(),
        });
    };
    let is_little = rest[1] == 1;
    let number = [head[18], head[19]];
    let machine = if is_little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
    match (OURS, rest[0]) {
        (Some((ours, class)), found) if machine != ours || found != class => {
            let bits = if found == 1 { 32 } else { 64 };
            Err(format!("is for {} ({bits} bits), and this hallmark is for {}", name(machine), std::env::consts::ARCH))
        }
        _ => Ok(()),
    }
}

fn name(machine: u16) -> String {
    MACHINES
        .iter()
        .find(|(number, _)| *number == machine)
        .map_or_else(|| format!("another kind of machine (ELF number {machine})"), |(_, name)| (*name).to_owned())
}

/// `e_machine` by name.
const MACHINES: &[(u16, &str)] = &[
    (3, "x86"),
    (8, "MIPS"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// `e_machine` and `EI_CLASS` of this program; `None` where they are not known here, and the linker decides.
const OURS: Option<(u16, u8)> = if cfg!(target_arch = "x86_64") {
    Some((62, 2))
} else if cfg!(target_arch = "aarch64") {
    Some((183, 2))
} else {
    None
};

#[cfg(test)]
mod tests {
    use super::*;

    fn head(class: u8, machine: u16) -> [u8; 20] {
        let mut head = [0; 20];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
        head[18..].copy_from_slice(&machine.to_le_bytes());
        head
    }

    #[test]
    fn a_library_of_another_machine_is_named() {
        let (ours, class) = OURS.unwrap();
        assert_eq!(judge_head(&head(class, ours)), Ok(()));
        let other = if ours == 62 { (183, "aarch64") } else { (62, "x86_64") };
        let why = judge_head(&head(2, other.0)).unwrap_err();
        assert!(why.contains(other.1) && why.contains(std::env::consts::ARCH), "{why}");
        assert!(judge_head(&head(1, 3)).unwrap_err().contains("x86 (32 bits)"));
        assert!(judge_head(&head(2, 999)).unwrap_err().contains("999"));
        assert!(judge_head(b"MZ..................").unwrap_err().contains("Windows"));
        assert!(judge_head(b"root:x:0:0:root:/roo").unwrap_err().contains("not a library"));
    }

    #[test]
    fn what_is_no_file_is_said_to_be_so() {
        let why = |path: &str| refuse_to_load(path.as_ref()).unwrap_err();
        assert!(why("libsofthsm2.so").0.contains("not an absolute path"));
        assert!(why("Cargo.toml").1.starts_with("hallmark hsm probe /"), "the path that it has is not offered");
        assert!(why("/nonexistent/a.so").0.contains("No such file"));
        assert!(why("/").0.contains("not a file"));
    }
}
