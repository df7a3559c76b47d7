//! The verb table: everything a person can ask. A verb is one file: its arguments, its help, its handler.

mod attached;
mod completions;
mod demo;
mod df;
mod doctor;
#[cfg(test)]
mod documented;
mod env;
mod host;
mod mcp;
mod network;
mod prune;
#[cfg(test)]
mod reference;
mod run;
mod supervise;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use pyro_engine::Settings;
use pyro_engine::workspace::Workspaces;

use crate::failure::{EXIT_PYRO_FAILED, EXIT_REFUSED, Failure, Kind, Telling};
use crate::progress::{Painter, ProgressChoice, Wishes};
use crate::terminal::ColorChoice;

/// How a chat host is told of pyro: by pyro, or by its own command.
macro_rules! wiring {
    () => {
        "  pyro host install claude-code             claude mcp add --scope user pyro -- pyro mcp serve
  pyro host install codex                   codex mcp add pyro -- pyro mcp serve
  pyro host install opencode                opencode mcp add pyro -- pyro mcp serve
  pyro host status                          does it work?"
    };
}
pub(crate) use wiring;

const ZERO_TO_HERO: &str = concat!(
    "\
From zero to a command in a microVM:
  pyro doctor                               is this machine ready?
  pyro env list                             what can be run
  pyro env pull debian:12                   fetch it, once
  pyro run debian:12 -- git --version       run a command in a machine of its own
  pyro mcp serve                            the tools for a chat host, which starts it itself

Tell your chat host once; its own command, beside it, does the same:
",
    wiring!(),
    "

A workspace, as the chat host's model has it:
  pyro workspace create debian:12 --name fix --seed-path .
  pyro workspace exec fix -- make test
  pyro workspace list
  pyro workspace logs fix
  pyro workspace reset fix
  pyro workspace delete fix"
);

/// Disposable microVM workspaces for coding agents
#[derive(Debug, Parser)]
#[command(name = "pyro", version, after_help = ZERO_TO_HERO, subcommand_required = true, arg_required_else_help = true)]
#[command(propagate_version = false, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    globals: Globals,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetch, inspect and remove environments: the root filesystems of machines
    #[command(subcommand)]
    Env(env::EnvVerb),
    /// Give a chat host tools that work in disposable machines
    #[command(subcommand)]
    Mcp(mcp::McpVerb),
    /// Run one command in a machine of its own, which is gone afterwards
    Run(run::RunArgs),
    /// Work in machines that stay: workspaces, each with a project in it
    #[command(subcommand, visible_alias = "ws")]
    Workspace(workspace::WorkspaceVerb),
    /// Check whether this host is ready, and say what to do where it is not
    Doctor(doctor::DoctorArgs),
    /// Show the life of a machine step by step, and what each step proves
    Demo(demo::DemoArgs),
    /// Register pyro with chat hosts: Claude Code, Codex, OpenCode
    #[command(subcommand)]
    Host(host::HostVerb),
    /// Show what pyro takes on this host's disk
    Df(df::DfArgs),
    /// Give back the disk space of what nobody needs
    Prune(prune::PruneArgs),
    /// Print a script that completes pyro's words in your shell
    Completions(completions::CompletionsArgs),
    /// Be the supervisor of a workspace
    #[command(hide = true)]
    Supervise(supervise::SuperviseArgs),
}

impl Verb {
    /// Whether it works with what earlier ones made. The verbs of workspaces look at those anyhow; `doctor`, `df` and `prune` say
    /// what there is to be mended.
    fn uses_what_is_kept(&self) -> bool {
        matches!(self, Self::Env(_) | Self::Mcp(_) | Self::Run(_) | Self::Demo(_))
    }
}

/// Flags that every verb has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Say more about what is going on
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 101)]
    verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 102)]
    quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, hide_possible_values = true)]
    #[arg(help = "When to use colour: auto, always or never", display_order = 103)]
    color: ColorChoice,
    /// How to show progress
    #[arg(long, global = true, value_enum, value_name = "HOW", default_value_t, hide_possible_values = true)]
    #[arg(help = "How to show progress: auto, plain or none", display_order = 104)]
    progress: ProgressChoice,
}

/// What a verb's handler needs besides its own arguments.
#[derive(Debug)]
pub(crate) struct Face {
    globals: Globals,
}

impl Face {
    /// Whether results on standard output are in colour.
    pub(crate) fn color(&self) -> bool {
        self.globals.color.applies_to(&std::io::stdout())
    }

    /// Begins to draw the progress of a piece of work.
    pub(crate) fn painter(&self) -> Painter {
        Painter::new(Wishes {
            choice: self.globals.progress,
            quiet: self.globals.quiet,
            verbose: self.globals.verbose > 0,
            dumb: crate::settings::terminal_wishes().dumb,
        })
    }

    /// Says one line to the person beside, unless `--quiet`.
    pub(crate) fn say(&self, words: &str) {
        if !self.globals.quiet {
            crate::progress::say(words);
        }
    }

    /// Brings what processes that were killed left of workspaces into a known state. Where there is nothing to mend, this
    /// is a look into a directory and at two files a workspace.
    fn reconcile(&self) {
        if let Ok(settings) = self.settings() {
            Workspaces::new(&settings).reconcile();
        }
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// They cannot be used.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(crate::settings::load()?)
    }
}

/// Words that are no command, or that ask for help.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: clap::Error,
    /// The words of the verb that was meant, such as `pyro env pull`.
    verb: String,
    telling: Telling,
}

/// Reads the command line.
///
/// # Errors
/// It is none of pyro's, or it asks for help or the version.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Cli, Refusal> {
    let color = color_wish(arguments);
    let mut command = Cli::command().color(color);
    let parsed = command.try_get_matches_from_mut(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let color = match color {
            clap::ColorChoice::Auto => ColorChoice::Auto,
            clap::ColorChoice::Always => ColorChoice::Always,
            clap::ColorChoice::Never => ColorChoice::Never,
        };
        let json = before_double_dash(arguments).any(|word| word == "--json");
        let telling = Telling { json, color: color.applies_to(&std::io::stderr()), exit: EXIT_REFUSED };
        Refusal { error, verb: verb_of(arguments), telling }
    })
}

impl Cli {
    /// Carries out the verb.
    pub(crate) fn dispatch(self) -> ExitCode {
        let face = Face { globals: self.globals };
        let mut telling =
            Telling { json: false, color: face.globals.color.applies_to(&std::io::stderr()), exit: EXIT_REFUSED };
        if self.verb.uses_what_is_kept() {
            face.reconcile();
        }
        let result = match self.verb {
            Verb::Env(verb) => {
                telling.json = verb.json();
                verb.handle(&face)
            }
            Verb::Mcp(verb) => verb.handle(&face),
            Verb::Run(args) => {
                telling.json = args.json;
                telling.exit = EXIT_PYRO_FAILED;
                args.handle(&face)
            }
            Verb::Host(verb) => {
                telling.json = verb.json();
                verb.handle(&face)
            }
            Verb::Doctor(args) => {
                telling.json = args.json;
                args.handle(&face)
            }
            Verb::Demo(args) => args.handle(&face),
            Verb::Workspace(verb) => {
                telling.json = verb.json();
                if verb.passes_exit_code() {
                    telling.exit = EXIT_PYRO_FAILED;
                }
                verb.handle(&face)
            }
            Verb::Df(args) => {
                telling.json = args.json;
                args.handle(&face)
            }
            Verb::Prune(args) => {
                telling.json = args.json;
                args.handle(&face)
            }
            Verb::Completions(args) => args.handle(),
            Verb::Supervise(args) => args.handle(&face),
        };
        result.unwrap_or_else(|failure| failure.tell(telling))
    }
}

impl Refusal {
    /// Prints help or version on standard output, or the error in our own words.
    pub(crate) fn print(&self) -> ExitCode {
        match self.error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // Help that nobody reads any more is no failure.
                drop(self.error.print());
                ExitCode::SUCCESS
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                drop(self.error.print());
                ExitCode::from(crate::failure::EXIT_USAGE)
            }
            _ => self.failure().tell(self.telling),
        }
    }

    /// The error without clap's usage lines: what is wrong in one line, what helps in another.
    fn failure(&self) -> Failure {
        let rendered = self.error.render().to_string();
        let mut message = String::new();
        let mut hints = Vec::new();
        for paragraph in rendered.split("\n\n") {
            let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(words) = words.strip_prefix("error: ") {
                message = words.to_owned();
            } else if words.starts_with("tip: ") {
                hints.extend(words.split("tip: ").map(str::trim).filter(|tip| !tip.is_empty()).map(str::to_owned));
            }
        }
        let surplus = self.error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
        if self.verb == "pyro run" && self.error.kind() == ErrorKind::UnknownArgument && !surplus.starts_with('-') {
            hints.push("put the command after --, as in: pyro run debian:12 -- git --version".to_owned());
        }
        hints.push(format!("see '{} --help'", self.verb));
        Failure::new(Kind::Usage, message).hint(hints.join("; "))
    }
}

/// `--color`, before anything else is known, so that clap's own messages obey it.
fn color_wish(arguments: &[OsString]) -> clap::ColorChoice {
    let mut wish = clap::ColorChoice::Auto;
    let mut follows = false;
    for word in before_double_dash(arguments).filter_map(|word| word.to_str()) {
        let value = if follows { Some(word) } else { word.strip_prefix("--color=") };
        follows = word == "--color";
        wish = match value {
            Some("always") => clap::ColorChoice::Always,
            Some("never") => clap::ColorChoice::Never,
            _ => wish,
        };
    }
    wish
}

/// The words of the verb that the arguments begin with.
fn verb_of(arguments: &[OsString]) -> String {
    let top = Cli::command();
    let mut command = &top;
    let mut verb = top.get_name().to_owned();
    for word in before_double_dash(arguments).skip(1) {
        if let Some(inner) = command.find_subcommand(word) {
            verb.push(' ');
            verb.push_str(inner.get_name());
            command = inner;
        }
    }
    verb
}

fn before_double_dash(arguments: &[OsString]) -> impl Iterator<Item = &OsString> {
    arguments.iter().take_while(|word| *word != "--")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_verb_table_is_sound() {
        super::Cli::command().debug_assert();
    }
}
