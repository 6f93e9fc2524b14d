//! A key file, read once and never written.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

use super::{super::super::Failure, material::Material, passphrase, pem, pkcs12, refused};

/// What such files are at most. The largest ones, with a long chain, have some 20 KiB.
pub(super) const MAX_FILE: usize = 1 << 20;
/// How long deriving keys from a passphrase may take, whatever the file asks for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A key file's bytes; wiped on drop.
pub(super) struct KeyFile {
    path: PathBuf,
    format: Format,
    bytes: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pkcs12,
    Pem,
}

/// What is in a key file.
#[derive(Default)]
pub(super) struct Contents {
    /// PKCS#8, with what the file calls them.
    pub(super) keys: Vec<(Zeroizing<Vec<u8>>, Option<String>)>,
    /// DER.
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) warnings: Vec<String>,
}

impl KeyFile {
    /// The one of the two that is named.
    pub(super) fn read(pkcs12: Option<&Path>, pem: Option<&Path>) -> Result<Self, Failure> {
        let (path, format) = match (pkcs12, pem) {
            (Some(path), _) => (path, Format::Pkcs12),
            // One of the two is there: the arguments say so.
            (None, path) => (path.unwrap_or(Path::new("")), Format::Pem),
        };
        // Neither a core dump nor a debugger of the same user is to see what is in there.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
        let bytes = read(path, MAX_FILE)?;
        let file = Self { path: path.to_owned(), format, bytes };
        file.check_format()?;
        Ok(file)
    }

    /// Opens it, asking for the passphrase if it has one, and takes the one key out.
    pub(super) fn open(self, password_file: Option<&Path>) -> Result<Material, Failure> {
        let Self { path, format, bytes } = self;
        let encrypted = format == Format::Pkcs12 || pem::is_encrypted(&bytes);
        let password = if encrypted { passphrase::get(&path, password_file)? } else { Zeroizing::default() };
        let (sender, receiver) = mpsc::sync_channel(1);
        // By itself, so that a file which asks for years of work can be left alone.
        thread::spawn(move || {
            let contents = match format {
                Format::Pkcs12 => pkcs12::contents(&bytes, &password),
                Format::Pem => pem::contents(&bytes, &password),
            };
            let _ = sender.send(contents.and_then(Material::new));
        });
        let material = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            Err(refused("deriving its keys from the passphrase takes longer than two minutes").hint(REPACK))
        });
        material.map_err(|error| in_file(&path, error))
    }

    fn check_format(&self) -> Result<(), Failure> {
        let is_pem = self.bytes.windows(11).any(|window| window == b"-----BEGIN ");
        match (self.format, is_pem) {
            (Format::Pkcs12, true) => {
                Err(in_file(&self.path, refused("it is a PEM file").hint("use --pem instead of --pkcs12")))
            }
            (Format::Pem, false) => Err(in_file(
                &self.path,
                refused("it is no PEM file")
                    .hint("use --pkcs12 for a .p12 or .pfx file; or make a PEM: openssl pkey -inform DER -in FILE"),
            )),
            _ => Ok(()),
        }
    }
}

/// Reads at most `max` bytes.
pub(super) fn read(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| refused(format!("can't read `{}`", path.display())).caused_by(&error);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let too_long = || refused(format!("`{}` is longer than {max} bytes: it is no key file", path.display()));
    if length > max as u64 {
        return Err(too_long());
    }
    // Room for all, and for good: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max { Err(too_long()) } else { Ok(bytes) }
}

fn in_file(path: &Path, failure: Failure) -> Failure {
    failure.detail("file", path.display().to_string()).in_context(format!("`{}` is not imported", path.display()))
}

/// For files whose protection is too old, too new or too strong.
pub(super) const REPACK: &str = "have it packed anew: openssl pkcs12 -in FILE -out NEW.pem, then import --pem NEW.pem, \
     and delete both";
