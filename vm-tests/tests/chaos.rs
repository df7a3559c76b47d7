//! Kills without a word, at random moments, of whoever is at work: the caller, the supervisor, the machine. After each, the
//! next command finds everything in a known state, and what was once acknowledged is there.
//!
//! `make chaos SEED=… COUNT=…` runs it for long. The same seed makes the same choices; the moments are parts of how long each
//! operation takes on this host, so that they are as near to the same as they can be.

mod chaos_model;

use std::time::{Duration, Instant};

use chaos_model::{Dice, Known, Operation, Victim};
use rustix::process::Signal;
use vm_tests::leftovers::{self, Leftover};
use vm_tests::{DEBIAN, Home, Outcome, Pyro, variable};

/// Kills of one run where nobody says how many, and the seed of it.
const COUNT: u64 = 12;
const SEED: u64 = 6;

/// How many workspaces there are while things are done to them.
const WORKSPACES_MIN: usize = 2;
const WORKSPACES_MAX: usize = 3;

/// How long a state may be on its way to another.
const SETTLE: Duration = Duration::from_secs(60);

#[test]
fn alone_kills_at_random_moments_lose_nothing_that_was_acknowledged() {
    let number = |name: &str, otherwise| match variable(name) {
        None => otherwise,
        Some(text) => text.to_str().and_then(|text| text.parse().ok()).expect("it is a number"),
    };
    let (seed, count) = (number("PYRO_CHAOS_SEED", SEED), number("PYRO_CHAOS_COUNT", COUNT));
    println!("SEED={seed} COUNT={count}");
    let home = Home::shared();
    let mut chaos = Chaos { home: &home, dice: Dice::new(seed), known: Vec::new(), usual: Vec::new(), next: 1 };
    chaos.learn_how_long_things_take();
    let (mut kills, mut round) = (0, 0);
    while kills < count {
        round += 1;
        let (words, hit) = chaos.strike();
        println!("{round}: {words}");
        kills += u64::from(hit);
        chaos.settle();
    }
    let (workspaces, snapshots) = chaos.end();
    println!("{workspaces} workspaces with {snapshots} snapshots were left, and were whole");
    home.assert_nothing_left();
}

struct Chaos<'a> {
    home: &'a Home,
    dice: Dice,
    known: Vec<Known>,
    /// How long each operation takes when nobody disturbs it.
    usual: Vec<(&'static str, Duration)>,
    /// The number of the next line, snapshot or workspace.
    next: u32,
}

impl Chaos<'_> {
    fn learn_how_long_things_take(&mut self) {
        let operations = ["create", "exec", "snapshot", "reset", "stop", "start", "forget", "delete"];
        for name in operations {
            let operation = self.operation(name, 0);
            let begun = Instant::now();
            let outcome = self.call(&operation).finish();
            outcome.assert_code(0);
            self.usual.push((name, begun.elapsed()));
            self.note(&operation, &outcome);
        }
    }

    /// One operation and one kill; what happened, and whether there was somebody to kill.
    fn strike(&mut self) -> (String, bool) {
        let operation = self.choose();
        let victim = self.dice.one_of(&[Victim::Supervisor, Victim::Machine, Victim::Caller]);
        let usual = self.usual.iter().find(|(name, _)| *name == operation.name()).expect("all were learnt").1;
        let after = usual.mul_f64(self.dice.fraction() * 1.1);
        let running = self.call(&operation).start();
        std::thread::sleep(after);
        let hit = match victim {
            Victim::Caller => {
                running.signal(Signal::KILL);
                true
            }
            Victim::Supervisor => self.supervisor_of(&operation).map(leftovers::kill).is_some(),
            Victim::Machine => {
                let supervisor = self.supervisor_of(&operation);
                let below = supervisor.map(leftovers::descendants).unwrap_or_default();
                let machine = below.into_iter().find(|pid| leftovers::is_called(*pid, "qemu"));
                machine.map(leftovers::kill).is_some()
            }
        };
        let outcome = running.wait();
        let what = if hit { "killed" } else { "not there" };
        let ended = outcome.code.map_or("killed".to_owned(), |code| format!("code {code}"));
        let words = format!("{operation}: {victim:?} {what} after {after:.0?}, {ended}");
        assert!(!outcome.stderr_text().contains("panicked"), "{outcome:?}");
        if outcome.code.is_some_and(|code| code != 0) {
            assert!(outcome.stderr_text().contains("error:"), "{outcome:?}");
        }
        self.note(&operation, &outcome);
        (words, hit)
    }

    /// An operation that makes sense now.
    fn choose(&mut self) -> Operation {
        while self.known.len() < WORKSPACES_MIN {
            let create = self.operation("create", 0);
            let outcome = self.call(&create).finish();
            outcome.assert_code(0);
            self.note(&create, &outcome);
        }
        let names: &[&'static str] = match self.known.len() {
            WORKSPACES_MAX => {
                &["exec", "exec", "snapshot", "snapshot", "forget", "reset", "reset", "stop", "start", "delete"]
            }
            _ => &["create", "exec", "snapshot", "snapshot", "forget", "reset", "reset", "stop", "start", "delete"],
        };
        let name = self.dice.one_of(names);
        let at = self.dice.below(self.known.len().max(1));
        if name == "start" {
            let stopped = self.home.pyro(&["workspace", "stop", &self.known[at].id]).finish();
            stopped.assert_code(0);
        }
        self.operation(name, at)
    }

    fn operation(&mut self, name: &'static str, at: usize) -> Operation {
        self.next += 1;
        let number = self.next;
        let known = self.known.get(at);
        let id = || known.expect("there is a workspace").id.clone();
        let snapshots: Vec<String> = known.map(|known| known.snapshots.keys().cloned().collect()).unwrap_or_default();
        match name {
            "create" => Operation::Create { name: format!("w{number}") },
            "exec" => Operation::Exec { id: id(), line: number },
            "snapshot" => Operation::Snapshot { id: id(), name: format!("s{number}") },
            "forget" if snapshots.is_empty() => Operation::Exec { id: id(), line: number },
            "forget" => Operation::Forget { id: id(), name: self.dice.one_of(&snapshots) },
            "reset" => {
                let targets: Vec<String> = std::iter::once("baseline".to_owned()).chain(snapshots).collect();
                Operation::Reset { id: id(), to: self.dice.one_of(&targets) }
            }
            "stop" => Operation::Stop { id: id() },
            "start" => Operation::Start { id: id() },
            "delete" => Operation::Delete { id: id() },
            _ => unreachable!("no operation is called {name}"),
        }
    }

    fn call(&self, operation: &Operation) -> Pyro {
        let words = |words: &[&str]| self.home.pyro(&["workspace"]).args(words);
        match operation {
            Operation::Create { name } => words(&["create", DEBIAN, "--name", name, "--id-only"]),
            Operation::Exec { id, line } => {
                words(&["exec", id, "--", "sh", "-c", &format!("echo {line} >> log && sync log")])
            }
            Operation::Snapshot { id, name } => words(&["snapshot", "create", id, name]),
            Operation::Forget { id, name } => words(&["snapshot", "delete", id, name]),
            Operation::Reset { id, to } => words(&["reset", id, "--snapshot", to]),
            Operation::Stop { id } => words(&["stop", id]),
            Operation::Start { id } => words(&["start", id]),
            Operation::Delete { id } => words(&["delete", "--force", id]),
        }
    }

    /// The supervisor of the workspace an operation is about; of one that is being made, that of none that is known.
    fn supervisor_of(&self, operation: &Operation) -> Option<u32> {
        self.home.leftovers().into_iter().find_map(|left| match left {
            Leftover::Process { pid, command } => {
                let (_, id) = command.split_once(" supervise ")?;
                let wanted = match operation.id() {
                    Some(wanted) => id == wanted,
                    None => !self.known.iter().any(|known| known.id == id),
                };
                wanted.then_some(pid)
            }
            Leftover::File(_) => None,
        })
    }

    /// Writes down what may be true after an operation that ended so.
    fn note(&mut self, operation: &Operation, outcome: &Outcome) {
        let acknowledged = outcome.code == Some(0);
        if let Operation::Create { .. } = operation {
            if acknowledged {
                self.known.push(Known::new(outcome.stdout_text().trim()));
            }
            return;
        }
        let id = operation.id().expect("all others are about one");
        let known = self.known.iter_mut().find(|known| known.id == id).expect("it is known");
        known.note(operation, acknowledged);
        if acknowledged && matches!(operation, Operation::Delete { .. }) {
            self.known.retain(|known| known.id != id);
        }
    }

    /// Sees to it that everything is in a known state, and that it is one that may be.
    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLE;
        let rows = loop {
            let listed = self.home.pyro(&["workspace", "list", "--json"]).finish();
            let rows = listed.assert_code(0).json()["workspaces"].as_array().cloned().expect("a list");
            if rows.iter().all(|row| row["state"] != "creating") {
                break rows;
            }
            assert!(Instant::now() < deadline, "somebody is creating for ever: {listed:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let ids: Vec<String> = rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
        // One that ran before its maker was killed is a workspace like any other, unless its supervisor notices just now.
        for id in &ids {
            if !self.known.iter().any(|known| known.id == *id) {
                self.known.push(Known::not_acknowledged(id));
            }
        }
        self.known.retain(|known| {
            let there = ids.contains(&known.id);
            assert!(there || known.may_be_gone, "workspace {} is gone", known.id);
            there
        });
        for at in 0..self.known.len() {
            self.examine(at, deadline);
        }
        self.known.retain(|known| !known.vanished);
    }

    /// Brings a workspace to run, and compares it with what is known of it.
    fn examine(&mut self, at: usize, deadline: Instant) {
        let id = self.known[at].id.clone();
        let call = |words: &[&str]| self.home.pyro(&["workspace"]).args(words).finish();
        let log = loop {
            // Whoever was killed a moment ago may be noticed only by the next who asks. A caller that was killed between a
            // line and its way to the disk leaves a line that a lost machine would take along: what is seen is made to last.
            let log = call(&["exec", &id, "--", "sh", "-c", "test ! -e log || { sync log && cat log; }"]);
            if log.code == Some(0) {
                break log.stdout_text();
            }
            let state = call(&["status", &id, "--json"]);
            if state.code != Some(0) {
                // It was about to be deleted.
                assert!(self.known[at].may_be_gone, "{state:?}");
                self.known[at].vanished = true;
                return;
            }
            match state.json()["state"].as_str() {
                Some("running") => {}
                Some("stopped" | "failed") => {
                    let started = call(&["start", &id]);
                    assert!(matches!(started.code, Some(0 | 1)), "{started:?}");
                }
                _ => panic!("an unknown state: {state:?}"),
            }
            assert!(Instant::now() < deadline, "it does not come back: {log:?} {state:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let listed = call(&["snapshot", "list", &id, "--json"]);
        let rows = listed.assert_code(0).json()["snapshots"].as_array().cloned().expect("a list");
        let names: Vec<String> = rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
        self.known[at].compare(&log, &names);
    }

    /// Goes to every snapshot once more, and removes everything; how many workspaces and snapshots there were.
    fn end(&mut self) -> (usize, usize) {
        let known = std::mem::take(&mut self.known);
        let counts = (known.len(), known.iter().map(|known| known.snapshots.len()).sum());
        for known in known {
            let call = |words: &[&str]| self.home.pyro(&["workspace"]).args(words).finish();
            for (name, contents) in &known.snapshots {
                call(&["reset", &known.id, "--snapshot", name]).assert_code(0);
                let log = call(&["exec", &known.id, "--", "sh", "-c", "cat log 2>/dev/null || true"]);
                let found = chaos_model::content(&log.stdout_text());
                assert!(contents.contains(&found), "snapshot {name} of {} holds {found:?}: {contents:?}", known.id);
            }
            call(&["delete", "--force", &known.id]).assert_code(0);
        }
        counts
    }
}
