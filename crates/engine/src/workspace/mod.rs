//! The operations a face can ask for; one file per noun.

pub mod command;
pub mod doctor;
pub mod env;
pub mod finish;
pub mod machines;
pub mod run;
pub mod tool;
