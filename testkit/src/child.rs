//! Tests that need a process of their own: a PKCS#11 library reads its environment at `C_Initialize`, once a process.

use std::{
    env,
    ffi::OsString,
    process::{Command, Stdio},
};

/// Runs `body` in a child process with what `prepare` puts into its environment: the test binary is started again for
/// just the test named `test` (its full path, as `cargo test` shows it), which comes here a second time.
///
/// What `prepare` answers beside the environment is kept until the child has ended. Panics with the child's output
/// where the child failed.
pub fn in_child<K>(test: &str, prepare: impl FnOnce() -> (K, Vec<(String, OsString)>), body: impl FnOnce()) {
    if env::var_os(MARK).is_some_and(|mark| mark == *test) {
        return body();
    }
    let (kept, environment) = prepare();
    // Unwrap safety: a test binary runs from a path that it can find.
    let binary = env::current_exe().unwrap();
    let child = Command::new(binary)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, test)
        .envs(environment)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("the test `{test}` can't start itself anew: {e}"));
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success(), "in the child process of `{test}`, {}:\n{out}\n{err}", child.status);
    assert!(out.contains("1 passed"), "no test has the name `{test}`:\n{out}");
    drop(kept);
}

const MARK: &str = "HALLMARK_TESTKIT_CHILD";
