mod faults;
mod hosts;
mod halves;
mod late;
mod looks;
mod operators;
mod rig;
mod rounds;
