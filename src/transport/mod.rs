//! The fronts.
