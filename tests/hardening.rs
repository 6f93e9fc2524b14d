//! What the process gives up, and that it works with what the systemd unit leaves it.

mod confined;
mod process;
mod unit;
