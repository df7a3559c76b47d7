//! The project's own chores, `cargo xtask <chore>`: what CI runs, and what keeps the house in order.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who started it")]

mod bench;
mod chaos;
mod ci;
mod guest;
mod licences;
mod references;
mod shell;
mod smoke_hosts;
mod test;
mod test_kvm;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <chore>

  ci           everything CI checks, in its order
  test         all tests, real guests included; says how many guests were booted
  test-kvm     pyro under a real KVM, in an emulated host
  smoke-hosts  pyro in the real Claude Code, Codex and OpenCode
  chaos        kills at random moments; COUNT and SEED after it
  tidy         house rules: room arrows, file headers and lengths, names, unsafe ratchet, budgets
  references   write docs/cli-reference.md anew
  licences     dependencies: licences and sources
  guest        build the static guest agent and check its size
  bench        the benchmark table; arguments after --";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["ci"] => ci::run(),
        ["test"] => test::run(),
        ["test-kvm"] => test_kvm::run(),
        ["smoke-hosts"] => smoke_hosts::run(),
        ["chaos", args @ ..] => chaos::run(args),
        ["tidy"] => tidy::run(),
        ["references"] => references::run(),
        ["licences"] => licences::run(),
        ["guest"] => guest::run(),
        ["bench", args @ ..] => bench::run(args),
        [] | ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        [unknown, ..] => Err(anyhow::anyhow!("no chore is called `{unknown}`\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
