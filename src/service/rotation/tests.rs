mod faults;
mod hosts;
mod late;
mod operators;
mod rig;
mod rounds;
