//! Counts the guests that were seen to run, across all test processes.

use std::fs::OpenOptions;
use std::io::Write;

use crate::outcome::Outcome;
use crate::surroundings::guest_count_file;

/// Exit codes with which pyro speaks for itself: wrong use, its own failure, interrupted.
const PYROS_OWN: [i32; 3] = [2, 125, 130];

/// Counts one more guest if this call of pyro shows that one ran: the guest's own exit code, or something that only the
/// guest can have printed.
pub(crate) fn count(args: &[String], outcome: &Outcome) {
    let spoke_for_itself = outcome.code.is_none_or(|code| PYROS_OWN.contains(&code));
    let json = args.iter().any(|word| word == "--json");
    let runs = args.first().is_some_and(|verb| verb == "run");
    let boots = args.iter().any(|word| word == "--boot") && outcome.code == Some(0);
    let output = !outcome.stdout.is_empty() && !json;
    if boots || (runs && (!spoke_for_itself || output)) {
        append();
    }
}

/// Counts one more guest that was seen to run.
pub(crate) fn count_one() {
    append();
}

fn append() {
    let path = guest_count_file();
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).expect("the target directory takes files");
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the count file opens");
    file.write_all(b".").expect("the count file takes one byte");
}
