//! Compile as a whole: golden files, and properties over random histories.

mod golden;
mod last_good;
mod last_good_policy;
mod model;
mod world;
