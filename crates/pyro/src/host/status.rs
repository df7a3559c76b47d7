//! What a host's configurations say of pyro, and whether that is true: the registered command is started and asked.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::connection::{self, Answered, Start, Unanswered};
use super::registration::{entry_in, is_pyro};
use super::{ChatHost, HostError, Places, Recipe, Scope};

/// What was found of one host.
#[derive(Debug)]
pub(crate) struct HostFound {
    /// The host's name for people.
    pub(crate) title: &'static str,
    /// The name of its program, and of its package at npm.
    pub(crate) program_name: &'static str,
    pub(crate) package: &'static str,
    /// Where its program is.
    pub(crate) program: Option<PathBuf>,
    /// The entries that it reads, the one that wins first.
    pub(crate) entries: Vec<EntryFound>,
    /// Its own tools were taken away.
    pub(crate) sandbox_only: bool,
    /// What that leaves.
    pub(crate) kept: &'static str,
    /// What the command of the entry that wins answered.
    pub(crate) answer: Option<Result<Answered, Unanswered>>,
}

/// An entry called pyro.
#[derive(Debug)]
pub(crate) struct EntryFound {
    pub(crate) scope: Scope,
    pub(crate) file: PathBuf,
    /// Its command; none where it is something else, such as an address.
    pub(crate) argv: Option<Vec<String>>,
    /// It is one of pyro's servers.
    pub(crate) is_pyro: bool,
    /// The host heeds it.
    pub(crate) enabled: bool,
    /// It starts the program that runs just now.
    pub(crate) same_program: bool,
    entry: Value,
}

/// Looks at a host's configurations and speaks to what is registered.
pub(crate) async fn look(places: &Places, host: ChatHost) -> Result<HostFound, HostError> {
    let mut entries = Vec::new();
    let mut sandbox_only = false;
    for scope in host.scopes() {
        let recipe = host.recipe(places, *scope)?;
        sandbox_only |= is_restricted(&recipe)?;
        entries.extend(entry_in(&recipe)?.map(|entry| EntryFound::of(places, &recipe, *scope, entry)));
    }
    let recipe = host.recipe(places, Scope::User)?;
    let answer = match entries.first() {
        Some(found) if found.enabled && found.is_pyro => found.ask(places, &recipe).await,
        _ => None,
    };
    Ok(HostFound {
        title: recipe.title,
        program_name: recipe.program,
        package: recipe.package,
        program: places.find_program(recipe.program),
        entries,
        sandbox_only,
        kept: recipe.kept,
        answer,
    })
}

impl EntryFound {
    fn of(places: &Places, recipe: &Recipe, scope: Scope, entry: Value) -> Self {
        let argv = recipe.form.argv(&entry);
        let enabled = entry.get("enabled") != Some(&Value::Bool(false));
        let program = argv.as_ref().and_then(|argv| places.resolve(&argv[0]));
        let running = std::env::current_exe().ok();
        Self {
            scope,
            file: recipe.servers.path.clone(),
            is_pyro: is_pyro(recipe, &entry),
            enabled,
            same_program: program.is_some_and(|program| same_file(&program, running.as_deref())),
            argv,
            entry,
        }
    }

    async fn ask(&self, places: &Places, recipe: &Recipe) -> Option<Result<Answered, Unanswered>> {
        let argv = self.argv.as_deref()?;
        let table = self.entry.get("env").or_else(|| self.entry.get("environment")).and_then(Value::as_object);
        let variables = table.into_iter().flatten();
        let variables = variables.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let start = Start {
            argv,
            variables: variables.collect(),
            environment: (!recipe.passes_environment).then(|| places.dirs.few_variables.clone()),
            dir: &places.project,
        };
        Some(connection::ask(start).await)
    }
}

impl Places {
    /// The file that a command's first word starts.
    fn resolve(&self, program: &str) -> Option<PathBuf> {
        if program.contains('/') {
            return Some(self.project.join(program));
        }
        self.find_program(program)
    }
}

fn same_file(one: &Path, other: Option<&Path>) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    other.is_some_and(|other| real(one).is_some() && real(one) == real(other))
}

fn is_restricted(recipe: &Recipe) -> Result<bool, HostError> {
    for (file, edit) in &recipe.restrictions {
        let Some(text) = file.read()? else { return Ok(false) };
        if !edit.holds(&file.parse(Some(&text))?) {
            return Ok(false);
        }
    }
    Ok(!recipe.restrictions.is_empty())
}
