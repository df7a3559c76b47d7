//! `make bench`: pyro beside what a user would pick instead, on the same machine, in one run.
//!
//! [`rows`] is the table of what can be measured, [`bed`] the place it is measured in, [`rivals`] the others,
//! [`memory`] what idle machines cost, [`sample`] the figures, [`host`] the machine they were taken on, [`table`] their print.
//! [`choices`] is a table of its own: what other arguments of QEMU and of the kernel would make of an emulated machine.
//! Deliberately absent: any crate of pyro, and any figure that is not a ratio within one run of this program.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "it starts the programs it measures")]

mod altered;
mod bed;
mod choices;
mod host;
mod memory;
mod network;
mod presence;
mod rivals;
mod rows;
mod sample;
mod server;
mod snapshots;
mod table;
mod workspaces;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use bed::Bed;
use rows::{ROWS, Row};
use sample::Measured;

const USAGE: &str = "\
bench [ROW…] [--json] [--samples N] [--list]
bench choices

Without names all rows are measured. --samples is 7 unless told; --list names the rows.
`choices` measures other arguments of QEMU and of the kernel, in emulation, beside the ones pyro has.";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints. Whether all of it could be measured.
fn run() -> Result<bool> {
    let wish = Wish::from_args(std::env::args().skip(1))?;
    if wish.list {
        for row in ROWS {
            println!("{:<16} {}", row.name, row.what);
        }
        return Ok(true);
    }
    let bed = Bed::make(wish.samples)?;
    if wish.choices {
        print!("{}", choices::run(&bed)?);
        return Ok(true);
    }
    let mut measured = Vec::new();
    for row in wish.rows {
        eprintln!("measuring {} …", row.name);
        // A row that fails must not cost the minutes that the others took.
        let outcome = (row.measure)(&bed).unwrap_or_else(|error| Measured::Failed(format!("{error:#}")));
        measured.push((row, outcome));
    }
    let machine = host::describe(&bed)?;
    if wish.json {
        println!("{}", table::json(&machine, &measured));
    } else {
        print!("{}", table::text(&machine, &measured));
    }
    Ok(!measured.iter().any(|(_, outcome)| matches!(outcome, Measured::Failed(_))))
}

/// What the command line asks for.
struct Wish {
    rows: Vec<&'static Row>,
    samples: usize,
    json: bool,
    list: bool,
    choices: bool,
}

impl Wish {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut wish = Self { rows: Vec::new(), samples: 7, json: false, list: false, choices: false };
        while let Some(word) = args.next() {
            match word.as_str() {
                "--json" => wish.json = true,
                "--list" => wish.list = true,
                "choices" => wish.choices = true,
                "--samples" => {
                    let number = args.next().context("--samples wants a number")?;
                    wish.samples = number.parse().with_context(|| format!("`{number}` is no number"))?;
                }
                name => match ROWS.iter().find(|row| row.name == name) {
                    Some(row) => wish.rows.push(row),
                    None => bail!("no row is called `{name}`\n{USAGE}"),
                },
            }
        }
        if wish.samples == 0 {
            bail!("no samples, no figure");
        }
        if wish.rows.is_empty() {
            wish.rows = ROWS.iter().collect();
        }
        Ok(wish)
    }
}
