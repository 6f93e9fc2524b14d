//! Every metric, as a function.
