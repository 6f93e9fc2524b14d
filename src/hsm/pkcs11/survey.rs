//! All that a module shows, call by call, for those who have not met it yet: what is there, what Hallmark would use, and
//! what stands in the way.
//!
//! Nothing is changed. A call that fails is a fact like others, and what can be asked without it is asked. Each call is
//! announced before it is made, so that whoever reads along from another process knows which one never came back.
//!
//! - `facts`: what can be found, and [`Survey`], which gathers it;
//! - `walk`: the calls that need no PIN; `keys`: those after a login;
//! - `raw`: calls whose answers `cryptoki` can't read;
//! - `library`: why a file can't be loaded;
//! - `judge`, `meaning`: what it means for Hallmark. They ask nothing.

mod facts;
mod judge;
mod keys;
mod library;
mod meaning;
mod raw;
#[cfg(test)]
mod tests;
mod walk;

pub use facts::{
    End, Event, Failure, Found, FoundKey, Library, Login, Mechanism, SignedWith, SlotShown, Step, Survey, TokenShown,
    Versions,
};
pub use judge::{AlgVerdict, Section, TokenVerdict, Way, judge};
pub use keys::{LoginOrder, log_in};
pub use library::refuse_to_load;
pub use meaning::meaning;
pub use walk::{Only, Order, walk};
