mod faults;
mod operators;
mod rig;
mod rounds;
