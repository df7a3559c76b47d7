//! `host status`: whether chat hosts know pyro, and whether what they start answers.

use std::process::ExitCode;

use clap::Args;

use super::{Face, connection, places};
use crate::failure::{EXIT_REFUSED, Failure};
use crate::host::{ChatHost, EntryFound, HostFound, Places, look};
use crate::report::Report as _;
use crate::report::doctor::Check;
use crate::report::host::{HostEntry, HostStatus, HostStatusReport, command_line, shown_path};
use crate::{interrupt, report};

const ABOUT: &str = "\
The registered command is started as the chat host starts it, and asked for its tools over MCP.
Exit code: 0 when that worked (without HOST: for each host that knows pyro), 1 otherwise.";

/// Arguments of `host status`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct StatusArgs {
    /// The chat host; all of them unless named
    #[arg(value_enum)]
    host: Option<ChatHost>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl StatusArgs {
    pub(super) fn handle(self, face: &Face) -> Result<ExitCode, Failure> {
        let places = places(face)?;
        let asked = self.host.map_or_else(|| ChatHost::ALL.to_vec(), |host| vec![host]);
        let report = interrupt::block_on(async {
            let mut hosts = Vec::new();
            for host in asked {
                hosts.push(status_of(&places, host).await);
            }
            Ok(HostStatusReport { hosts })
        })?;
        report::print(&report, self.json, face.color())?;
        Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
    }
}

async fn status_of(places: &Places, host: ChatHost) -> HostStatus {
    match look(places, host).await {
        Ok(found) => judged(host, found),
        Err(error) => HostStatus {
            host: host.word(),
            connected: false,
            registered: true,
            program: None,
            entries: Vec::new(),
            sandbox_only: false,
            connection: None,
            checks: vec![Failure::from(error).into_check("configuration")],
        },
    }
}

fn judged(host: ChatHost, mut found: HostFound) -> HostStatus {
    let install = format!("pyro host install {}", host.word());
    let mut checks = vec![program(&found)];
    let argv = found.entries.first().and_then(|entry| entry.argv.clone()).unwrap_or_default();
    let connection = found.answer.take().map(|answer| connection(answer, &argv));
    match found.entries.first() {
        None => checks.push(Check::fail("entry", format!("{} does not know pyro", found.title), install.as_str())),
        Some(entry) => checks.extend(entry_checks(entry, &install)),
    }
    for shadowed in found.entries.iter().skip(1) {
        let place = format!("the one in its {} scope, {}", shadowed.scope.word(), shown_path(&shadowed.file));
        checks.push(Check::warn("entry", format!("{place}, is not heeded"), "remove the one that is not wanted"));
    }
    if let Some(connection) = &connection {
        checks.push(match connection.ok {
            true => Check::ok("connection", connection.words()),
            false => Check::fail("connection", connection.words(), format!("{install} registers this pyro anew")),
        });
    }
    if found.sandbox_only {
        checks.push(Check::ok("own tools", format!("taken away; {}", found.kept)));
    }
    HostStatus {
        host: host.word(),
        connected: connection.as_ref().is_some_and(|connection| connection.ok),
        registered: !found.entries.is_empty(),
        program: found.program,
        sandbox_only: found.sandbox_only,
        connection,
        checks,
        entries: found
            .entries
            .into_iter()
            .map(|entry| HostEntry {
                scope: entry.scope.word(),
                file: entry.file,
                command: entry.argv,
                enabled: entry.enabled,
                this_program: entry.same_program,
            })
            .collect(),
    }
}

fn program(found: &HostFound) -> Check {
    match &found.program {
        Some(path) => Check::ok("program", shown_path(path)),
        None => Check::warn(
            "program",
            format!("{} is not in the PATH", found.program_name),
            format!("npm install -g {}", found.package),
        ),
    }
}

fn entry_checks(entry: &EntryFound, install: &str) -> Vec<Check> {
    let place = format!("{} scope, {}", entry.scope.word(), shown_path(&entry.file));
    if !entry.is_pyro {
        let fix = "rename it in that file, or remove it";
        return vec![Check::fail("entry", format!("{place}: another server is called pyro"), fix)];
    }
    let mut checks = vec![match entry.enabled {
        true => Check::ok("entry", place),
        false => Check::fail("entry", format!("{place}: it is switched off"), install),
    }];
    let command = command_line(entry.argv.as_deref().unwrap_or_default());
    checks.push(match entry.same_program {
        true => Check::ok("command", command),
        false => Check::warn("command", format!("{command} is another pyro than this one"), install),
    });
    checks
}
