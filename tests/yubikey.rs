//! Hallmark on YubiKeys, virtual ones: the main job, keys over time, and everything that hands and other programs do.

mod faults;
mod fleet;
mod keys;
mod real;
mod rig;
mod secrets;
