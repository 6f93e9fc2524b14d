//! The only place where concrete types meet.
