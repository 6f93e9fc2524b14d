//! The rules by example and at their boundaries; `properties` has them over arbitrary histories.

mod fixture;
mod gates;
mod operators;
mod plans;
mod properties;
mod rules;
mod verifiers;
mod world;
