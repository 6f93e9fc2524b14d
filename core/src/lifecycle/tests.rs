//! The rules, by example; `properties` has them over arbitrary histories.

mod world;
