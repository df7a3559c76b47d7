//! The `pyro` command: reads its words, does what they ask, ends with an exit code that says how it went.
//!
//! Deliberately absent: any work. What a verb does is in `pyro_engine`; here are words in ([`cli`], [`settings`]) and
//! words out ([`report`], [`failure`], [`progress`]).

mod cli;
mod failure;
mod host;
mod interrupt;
mod mcp;
mod progress;
mod report;
mod settings;
mod streams;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    terminal::speak_plainly_on_panic();
    let arguments: Vec<_> = std::env::args_os().collect();
    match cli::parse(&arguments) {
        Ok(cli) => cli.dispatch(),
        Err(refusal) => refusal.print(),
    }
}
