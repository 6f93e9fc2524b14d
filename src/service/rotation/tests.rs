mod faults;
mod rig;
mod rounds;
