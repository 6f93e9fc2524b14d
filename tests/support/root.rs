//! What only root may do.

/// Whether this is root, who may `what`. Anyone else is told so, and the test is not run; with `CI=true` that is a
/// failure, for there it is to be run.
pub(crate) fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not run: only root may {what}\nhint: run the tests as root, in a container for example");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "only root may {what}: run the tests as root");
    }
    root
}
