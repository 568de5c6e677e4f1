//! Compile as a whole: golden files, and properties over random histories.

mod golden;
mod last_good;
mod model;
mod world;
