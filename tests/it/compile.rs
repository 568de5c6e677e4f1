//! Compile as a whole: golden files, and properties over random histories.

mod golden;
mod model;
mod world;
