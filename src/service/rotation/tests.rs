mod faults;
mod hosts;
mod operators;
mod rig;
mod rounds;
