//! What a process gives up before its first thread, so that whoever gets into it gets less; and what it keeps out of core
//! files and swap. `docs/adr/0020-…` says why each.
//!
//! Nothing here fails a start: a system that does not allow a measure is told of in the log and by a metric, for the
//! process is no worse than before.

mod memory;

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit},
    thread::{self, CapabilitySet, CapabilitySets},
};

pub use self::memory::{Locked, private_buffer};

/// What kind of process this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// `hallmark dev`: what it guards is worth nothing, and people look into it with debuggers.
    Development,
    /// A command: it may hold an access token, or a key on its way into an HSM. It keeps its user's rights, with which it
    /// reads that user's files.
    #[default]
    Command,
    /// `hallmark serve`: gives up all it can.
    Server,
}

/// Something that holds for the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A crash writes no memory to a disk.
    CoreDumps,
    /// Others of the same user can't look into the memory.
    Dumpable,
    /// No program that it starts gets more rights than it has.
    NewPrivileges,
    /// It has no capability, save perhaps that of binding low ports.
    Capabilities,
    /// It does not own root's files.
    Root,
    /// Secrets are not written to swap.
    MemoryLock,
    /// The system refuses calls that it has no need of. For systemd, or a container, to do: they know the module.
    Seccomp,
}

impl Measure {
    /// In the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::CoreDumps,
        Self::Dumpable,
        Self::NewPrivileges,
        Self::Capabilities,
        Self::Root,
        Self::MemoryLock,
        Self::Seccomp,
    ];

    /// As the metric `hallmark_hardening` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoreDumps => "core-dumps-off",
            Self::Dumpable => "not-dumpable",
            Self::NewPrivileges => "no-new-privileges",
            Self::Capabilities => "no-capabilities",
            Self::Root => "not-root",
            Self::MemoryLock => "memory-locked",
            Self::Seccomp => "seccomp",
        }
    }

    /// What to type where it is not in force.
    pub fn hint(self) -> &'static str {
        match self {
            Self::CoreDumps => "LimitCORE=0 in the systemd unit",
            Self::Dumpable => "/proc/sys/fs/suid_dumpable set to 0",
            Self::NewPrivileges => "NoNewPrivileges=yes in the systemd unit",
            Self::Capabilities => "CapabilityBoundingSet= in the systemd unit",
            Self::Root => "User= in the systemd unit, or USER in the container image",
            Self::MemoryLock => "LimitMEMLOCK=8M in the systemd unit, or a machine without swap",
            Self::Seccomp => "SystemCallFilter= as in deploy/systemd/hallmark.service",
        }
    }

    /// Whether it is in force now, as the system says.
    pub fn is_in_force(self) -> bool {
        match self {
            Self::CoreDumps => rustix::process::getrlimit(Resource::Core).current == Some(0),
            Self::Dumpable => rustix::process::dumpable_behavior() == Ok(DumpableBehavior::NotDumpable),
            Self::NewPrivileges => thread::no_new_privs() == Ok(true),
            Self::Capabilities => thread::capabilities(None).is_ok_and(|sets| (sets.permitted - KEPT).is_empty()),
            Self::Root => !is_root(),
            Self::MemoryLock => Locked::new(&[0; 1]).is_some(),
            Self::Seccomp => thread::secure_computing_mode() == Ok(thread::SecureComputingMode::Filter),
        }
    }
}

/// Gives up what a process of that kind has no need of. To be called before the first thread: capabilities and
/// `no_new_privs` are each thread's own, and pass on to those that it starts.
///
/// What the system does not allow stays as it was; [`Measure::is_in_force`] tells.
pub fn apply(scope: Scope) {
    if scope == Scope::Development {
        return;
    }
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = thread::set_no_new_privs(true);
    if scope == Scope::Server {
        // The socket of `[grpc] unix` gets its mode by itself: all else is for this user alone.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let _ = drop_capabilities();
    }
}

/// Whether this process owns what root owns. In a user namespace uid 0 is somebody else outside.
pub fn is_root() -> bool {
    let maps_to_itself = |map: &str| map.split_whitespace().take(2).eq(["0", "0"]);
    rustix::process::geteuid().is_root()
        && std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| map.lines().any(maps_to_itself))
}

fn drop_capabilities() -> rustix::io::Result<()> {
    let had = thread::capabilities(None)?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for capability in (CapabilitySet::all() - KEPT).iter() {
            // Unknown to this kernel: then nobody has it.
            let _ = thread::remove_capability_from_bounding_set(capability);
        }
    }
    // Under the unit's seccomp list the call is refused, and there is nothing to give up.
    if (had.permitted - KEPT).is_empty() {
        return Ok(());
    }
    let (effective, permitted) = (had.effective & KEPT, had.permitted & KEPT);
    thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}

/// Where it was given: a listener on port 443 is bound later.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
