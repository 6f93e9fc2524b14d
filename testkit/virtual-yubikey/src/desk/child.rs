//! A process that the desk started, and that ends with it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
};

/// Killed when dropped; by the system, should the desk be killed.
pub(super) struct Child {
    child: process::Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// `setpriv` becomes the program itself, with the same process id.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Child {
    /// Starts it, with its standard error at the end of `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self, String> {
        let cannot = |error| format!("{command:?}: {error}");
        let log = File::options().create(true).append(true).open(log).map_err(cannot)?;
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = spawned.map_err(|error| format!("{command:?}: {error}"))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    /// Gives a card an order, and waits until it is in force.
    pub(super) fn order(&mut self, order: &str) -> Result<(), String> {
        let mut answer = String::new();
        writeln!(self.orders, "{order}")
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(|error| format!("the card does not listen: {error}"))?;
        if answer == "ok\n" { Ok(()) } else { Err(format!("the card says: `{answer}`")) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
