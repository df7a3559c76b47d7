//! The operations a face can ask for; one file per noun.

pub mod command;
pub mod doctor;
pub mod finish;
