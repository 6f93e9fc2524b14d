//! The rules by example and at their boundaries; `properties` has them over arbitrary histories.

mod arbitrary;
mod fixture;
mod gates;
mod history;
mod operators;
mod plans;
mod properties;
mod rules;
mod verifiers;
mod world;
