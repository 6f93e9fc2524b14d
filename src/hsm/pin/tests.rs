use std::{fs, os::unix::fs::PermissionsExt};

use secrecy::ExposeSecret;

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn source(&self, content: &str, mode: u32) -> PinSource {
        let path = self.file("pin", content, mode);
        PinSource::parse(path.to_str().unwrap(), None).unwrap()
    }
}

#[test]
fn forms_of_rfc_7512_and_ours_are_taken_and_others_refused() {
    let credentials = Some(Path::new("/run/credentials/x"));
    let path = |text| PinSource::parse(text, credentials).unwrap().path;
    assert_eq!(path("/etc/pin"), Path::new("/etc/pin"));
    assert_eq!(path("file:/etc/pin"), Path::new("/etc/pin"));
    assert_eq!(path("file:///etc/pin"), Path::new("/etc/pin"));
    assert_eq!(path("fd:3"), Path::new("/proc/self/fd/3"));
    assert_eq!(path("credential:pin"), Path::new("/run/credentials/x/pin"));
    for bad in ["", "pin", "1234", "|cat /etc/pin", "fd:", "fd:-1", "credential:", "credential:../pin", "file:pin"] {
        assert!(matches!(PinSource::parse(bad, credentials), Err(PinError::Form)), "{bad:?} was taken");
    }
    assert!(matches!(PinSource::parse("credential:pin", None), Err(PinError::NoCredentials(_))));
}

#[test]
fn one_newline_at_the_end_is_not_part_of_the_pin() {
    let place = Place::new();
    for (content, pin) in [("1234", "1234"), ("1234\n", "1234"), ("1234\r\n", "1234"), (" 12 34\n\n", " 12 34\n")] {
        assert_eq!(place.source(content, 0o600).read().unwrap().secret.expose_secret(), pin.as_bytes());
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_with_what_to_type() {
    let place = Place::new();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
        let error = place.source("1234", mode).read().unwrap_err();
        assert!(matches!(error, PinError::Exposed { .. }), "{mode:o} was taken");
        assert!(error.to_string().contains("hint: chmod 600"), "{error}");
    }
    assert!(place.source("1234", 0o400).read().is_ok());
}

#[test]
fn files_without_a_pin_are_refused() {
    let place = Place::new();
    assert!(matches!(place.source("", 0o600).read(), Err(PinError::Empty(_))));
    assert!(matches!(place.source("\n", 0o600).read(), Err(PinError::Empty(_))));
    assert!(matches!(place.source(&"1".repeat(256), 0o600).read(), Err(PinError::TooLong(_))));
    let missing = PinSource::parse("/nonexistent/pin", None).unwrap();
    assert!(matches!(missing.read(), Err(PinError::Read(..))));
    let long = place.source(&"1".repeat(256), 0o600);
    for error in [long.read().unwrap_err(), missing.read().unwrap_err(), PinError::Changed(long)] {
        assert!(error.to_string().contains("\nhint: "), "{error}");
    }
    let directory = PinSource::parse(place.0.path().to_str().unwrap(), None).unwrap();
    assert!(matches!(directory.read(), Err(PinError::NotAFile(_))));
}

#[test]
fn the_identity_changes_with_the_file_and_not_with_reading_it() {
    let place = Place::new();
    let source = place.source("1234\n", 0o600);
    let first = source.read().unwrap().source_id;
    assert_eq!(source.read().unwrap().source_id, first);
    // What `touch` does; a fixed time, since two writes may fall into one tick of the file system's clock.
    let file = File::options().write(true).open(&source.path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_ne!(source.read().unwrap().source_id, first);
}

#[test]
fn a_credential_keeps_its_identity_when_the_service_manager_makes_it_anew() {
    let place = Place::new();
    place.file("pin", "1234", 0o440);
    let source = PinSource::parse("credential:pin", Some(place.0.path())).unwrap();
    let first = source.read().unwrap().source_id;
    fs::remove_file(&source.path).unwrap();
    place.file("pin", "1234", 0o440);
    assert_eq!(source.read().unwrap().source_id, first);
    place.file("pin", "1234", 0o444);
    assert!(matches!(source.read(), Err(PinError::Exposed { .. })));
}

#[test]
fn nothing_printed_shows_the_pin() {
    let place = Place::new();
    let pin = place.source("73915064", 0o600).read().unwrap();
    assert!(!format!("{pin:?}{}", pin.source_id).contains("73915064"));
}
