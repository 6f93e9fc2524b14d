mod faults;
mod halves;
mod hosts;
mod late;
mod looks;
mod operators;
mod rig;
mod rounds;
