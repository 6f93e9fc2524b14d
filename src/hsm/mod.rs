//! HSM backends.
