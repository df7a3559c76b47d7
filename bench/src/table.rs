//! The figures as a table for people and as JSON for comparing two commits.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::host::Machine;
use crate::rows::{Row, YARDSTICK};
use crate::sample::{Figures, Measured, Unit};

type Results = [(&'static Row, Measured)];

/// The table.
pub(crate) fn text(machine: &Machine, results: &Results) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes text");
    line(format!(
        "{}, {} processors, {:.1} GiB, Linux {}",
        machine.processor, machine.processors, machine.memory_gib, machine.kernel
    ));
    line(format!(
        "accelerator {}, QEMU {}, {}, load {}",
        machine.accelerator, machine.qemu, machine.pyro, machine.load
    ));
    line(String::new());
    line(format!(
        "{:<16} {:>4} {:>10} {:>10} {:>10}  {:<4} {:>10}  what",
        "row", "n", "median", "min", "max", "unit", YARDSTICK
    ));
    let yardstick = yardstick(results);
    for (row, measured) in results {
        match measured {
            Measured::Absent(reason) => line(format!("{:<16} {:>4} {reason}", row.name, "-")),
            Measured::Failed(error) => line(format!("{:<16} {:>4} {error}", row.name, "FAIL")),
            Measured::Figures(figures) => {
                let ratio = ratio(figures, yardstick).map_or_else(|| "-".to_owned(), |ratio| format!("x {ratio:.3}"));
                let Figures { unit, .. } = figures;
                let (median, min, max) = (figures.median(), figures.min(), figures.max());
                let count = figures.count();
                line(format!(
                    "{:<16} {count:>4} {median:>10.1} {min:>10.1} {max:>10.1}  {:<4} {ratio:>10}  {}",
                    row.name,
                    unit.name(),
                    row.what
                ));
            }
        }
    }
    out
}

/// The same as one JSON object.
pub(crate) fn json(machine: &Machine, results: &Results) -> Value {
    let yardstick = yardstick(results);
    let rows: Vec<Value> = results.iter().map(|(row, measured)| json_row(row, measured, yardstick)).collect();
    json!({ "machine": machine.json(), "yardstick": YARDSTICK, "rows": rows })
}

fn json_row(row: &Row, measured: &Measured, yardstick: Option<f64>) -> Value {
    match measured {
        Measured::Absent(reason) => json!({ "name": row.name, "what": row.what, "absent": reason }),
        Measured::Failed(error) => json!({ "name": row.name, "what": row.what, "failed": error }),
        Measured::Figures(figures) => json!({
            "name": row.name,
            "what": row.what,
            "unit": figures.unit.name(),
            "samples": figures.count(),
            "median": figures.median(),
            "min": figures.min(),
            "max": figures.max(),
            "ratio": ratio(figures, yardstick),
        }),
    }
}

fn yardstick(results: &Results) -> Option<f64> {
    results.iter().find_map(|(row, measured)| match measured {
        Measured::Figures(figures) if row.name == YARDSTICK => Some(figures.median()),
        _ => None,
    })
}

fn ratio(figures: &Figures, yardstick: Option<f64>) -> Option<f64> {
    yardstick.filter(|_| figures.unit == Unit::Milliseconds).map(|yardstick| figures.median() / yardstick)
}
