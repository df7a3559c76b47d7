//! Putting pyro into a host's configuration and taking it out: first planned, as texts before and after, then carried out.
//!
//! Where the host has a command of its own for it, that one adds and removes the entry: a host that runs just now may hold
//! its file, and its command knows how to share it. All else, and all of it where the host is not installed, is written here.

use std::path::PathBuf;

use pyro_engine::store::host_record::HostRecord;
use pyro_engine::store::lock::Lock;
use serde_json::Value;

use super::change::{Edit, remove_empty_parents, take_back};
use super::connection::{Answered, Unanswered};
use super::document::Document;
use super::file::{ConfigFile, diff};
use super::{ChatHost, HostError, Places, Recipe, SERVER_NAME, Scope, own_command, status};

/// What is to be registered.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) host: ChatHost,
    pub(crate) scope: Scope,
    /// The profile's name, unless it is the default.
    pub(crate) profile: Option<String>,
    pub(crate) allow_paths: Vec<PathBuf>,
    pub(crate) allow_hosts: Vec<String>,
    /// Names of secrets, and the files that hold them.
    pub(crate) secret_files: Vec<(String, PathBuf)>,
    /// Take the host's own tools away, too.
    pub(crate) sandbox_only: bool,
}

/// What was done, or would be.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) host: ChatHost,
    pub(crate) scope: Scope,
    /// The host's name for people.
    pub(crate) title: &'static str,
    /// What the server is started with; nothing where it was removed.
    pub(crate) argv: Vec<String>,
    /// There was an entry before.
    pub(crate) was_there: bool,
    /// The files that it is about, and whether each was changed.
    pub(crate) files: Vec<(PathBuf, bool)>,
    /// The change as a unified diff.
    pub(crate) diff: String,
    /// The host's own command that did its part, or would.
    pub(crate) own_command: Option<Vec<String>>,
    /// What more there is to know.
    pub(crate) notes: Vec<String>,
    /// What the registered command answered.
    pub(crate) answer: Option<Result<Answered, Unanswered>>,
}

/// What a user would put into a configuration by hand.
#[derive(Debug)]
pub(crate) struct ShownConfig {
    pub(crate) argv: Vec<String>,
    /// The host's own command that does the same.
    pub(crate) own_command: Option<Vec<String>>,
    /// Each file, and what belongs into it.
    pub(crate) parts: Vec<(PathBuf, String)>,
}

/// One file before and after.
struct Plan {
    file: ConfigFile,
    before: Option<String>,
    after: Option<String>,
    record: HostRecord,
    /// The entry itself comes or goes.
    moves_entry: bool,
}

/// Registers pyro, or says what that would change.
pub(crate) async fn install(places: &Places, wish: &Registration, dry_run: bool) -> Result<Outcome, HostError> {
    let recipe = wish.host.recipe(places, wish.scope)?;
    let argv = wish.argv(places)?;
    let plan = || plan_install(places, &recipe, &argv, wish.sandbox_only);
    let own = |plans: &[Plan]| {
        let words = recipe.own_add.as_deref().filter(|_| plans.iter().any(|plan| plan.moves_entry))?;
        Some(OwnCommand { program: places.find_program(recipe.program)?, words: own_words(words, &argv) })
    };
    let mut outcome = carry_out(places, &recipe, dry_run, Steps { plan: &plan, own: &own, removes: false }).await?;
    (outcome.host, outcome.scope, outcome.argv) = (wish.host, wish.scope, argv);
    if wish.sandbox_only {
        outcome.notes.push(format!("--sandbox-only takes {}", recipe.taken));
        outcome.notes.push(recipe.kept.to_owned());
    }
    if wish.scope == Scope::Project {
        outcome.notes.push("everybody who works on this project needs pyro in the PATH".to_owned());
    }
    outcome.notes.push(recipe.hint.to_owned());
    if !dry_run {
        outcome.answer = status::look(places, wish.host).await?.answer;
    }
    Ok(outcome)
}

/// Takes pyro out again, with what was changed for it, or says what that would change.
pub(crate) async fn remove(places: &Places, host: ChatHost, scope: Scope, dry_run: bool) -> Result<Outcome, HostError> {
    let recipe = host.recipe(places, scope)?;
    let plan = || plan_removal(places, &recipe);
    let own = |plans: &[Plan]| {
        let words = recipe.own_remove.as_deref().filter(|_| plans.iter().any(|plan| plan.moves_entry))?;
        Some(OwnCommand { program: places.find_program(recipe.program)?, words: own_words(words, &[]) })
    };
    let mut outcome = carry_out(places, &recipe, dry_run, Steps { plan: &plan, own: &own, removes: true }).await?;
    (outcome.host, outcome.scope) = (host, scope);
    for other in host.scopes().iter().filter(|other| **other != scope) {
        let elsewhere = host.recipe(places, *other)?;
        if entry_in(&elsewhere)?.is_some() {
            let file = elsewhere.servers.path.display();
            outcome.notes.push(format!("{} still has pyro in its {} scope, {file}", recipe.title, other.word()));
        }
    }
    Ok(outcome)
}

/// What would be registered, for a user who does it by hand.
pub(crate) fn shown(places: &Places, wish: &Registration) -> Result<ShownConfig, HostError> {
    let recipe = wish.host.recipe(places, wish.scope)?;
    let argv = wish.argv(places)?;
    let mut parts = Vec::new();
    for (file, edits) in by_file(&recipe, entry_edits(&recipe, None, &argv), wish.sandbox_only) {
        let mut document = file.parse(Some(if file.blank.is_empty() { "" } else { "{}\n" }))?;
        apply(&file, &edits, &mut document, &mut Vec::new())?;
        parts.push((file.path, document.text()));
    }
    let own_command = recipe.own_add.as_deref().map(|words| {
        let mut command = vec![recipe.program.to_owned()];
        command.extend(own_words(words, &argv));
        command
    });
    Ok(ShownConfig { argv, own_command, parts })
}

impl Registration {
    /// The command that the host starts. A project's file is for other people's computers, too, so it names no path of
    /// this one; elsewhere the path is whole, since a host may have another `PATH` than a terminal.
    fn argv(&self, places: &Places) -> Result<Vec<String>, HostError> {
        let program = match self.scope {
            Scope::Project => PathBuf::from(SERVER_NAME),
            Scope::User | Scope::Local => places.own_program()?,
        };
        let mut argv = vec![text(program)?, "mcp".to_owned(), "serve".to_owned()];
        if let Some(profile) = &self.profile {
            argv.extend(["--profile".to_owned(), profile.clone()]);
        }
        for path in &self.allow_paths {
            let bad = |source| HostError::BadDirectory { path: path.clone(), source };
            let whole = std::fs::canonicalize(path).map_err(bad)?;
            if !whole.is_dir() {
                return Err(bad(std::io::ErrorKind::NotADirectory.into()));
            }
            argv.extend(["--allow-path".to_owned(), text(whole)?]);
        }
        for host in &self.allow_hosts {
            argv.extend(["--allow-host".to_owned(), host.clone()]);
        }
        for (name, path) in &self.secret_files {
            let bad = |source| HostError::BadSecretFile { path: path.clone(), source };
            let whole = std::fs::canonicalize(path).map_err(bad)?;
            if !whole.is_file() {
                return Err(bad(std::io::ErrorKind::InvalidInput.into()));
            }
            argv.extend(["--secret-file".to_owned(), format!("{name}={}", text(whole)?)]);
        }
        Ok(argv)
    }
}

impl Places {
    /// The running program, by its place in the `PATH` where it has one: that is what stays after an update.
    pub(super) fn own_program(&self) -> Result<PathBuf, HostError> {
        let running = std::env::current_exe().map_err(|source| HostError::OwnPath { source })?;
        let real = std::fs::canonicalize(&running).map_err(|source| HostError::OwnPath { source })?;
        let in_path = self.find_program(SERVER_NAME).filter(|path| std::fs::canonicalize(path).ok() == Some(real));
        Ok(in_path.unwrap_or(running))
    }
}

fn text(path: PathBuf) -> Result<String, HostError> {
    path.into_os_string().into_string().map_err(|path| HostError::NotText { path: path.into() })
}

/// A command of the host's own program.
struct OwnCommand {
    program: PathBuf,
    words: Vec<String>,
}

/// What installing and removing do differently.
struct Steps<'a> {
    plan: &'a dyn Fn() -> Result<Vec<Plan>, HostError>,
    /// The host's own command for a plan, where it has one and is installed.
    own: &'a dyn Fn(&[Plan]) -> Option<OwnCommand>,
    removes: bool,
}

async fn carry_out(places: &Places, recipe: &Recipe, dry_run: bool, steps: Steps<'_>) -> Result<Outcome, HostError> {
    let mut plans = (steps.plan)()?;
    let mut outcome = Outcome::of(recipe, &plans);
    let own = (steps.own)(&plans);
    outcome.own_command = own.as_ref().map(|own| {
        let mut command = vec![recipe.program.to_owned()];
        command.extend(own.words.iter().cloned());
        command
    });
    if dry_run || !plans.iter().any(Plan::changes) {
        return Ok(outcome);
    }
    let _lock = Lock::wait_for_directory(&places.home.hosts_dir()).map_err(HostError::Lock)?;
    if !steps.removes {
        // Before the change it tells of: a record of what never came to be does no harm.
        keep_records(places, &plans)?;
    }
    if let Some(OwnCommand { program, words }) = own {
        if let Err(reason) = own_command::run(&program, &words, &places.project).await {
            let words = format!("'{} {}' failed ({reason}), so the file was written", recipe.program, words.join(" "));
            outcome.notes.push(words);
            outcome.own_command = None;
        }
        plans = (steps.plan)()?;
    }
    for plan in plans.iter().filter(|plan| plan.changes()) {
        plan.file.replace(plan.before.as_deref(), plan.after.as_deref())?;
    }
    if steps.removes {
        keep_records(places, &plans)?;
    }
    Ok(outcome)
}

fn keep_records(places: &Places, plans: &[Plan]) -> Result<(), HostError> {
    for plan in plans {
        let path = places.home.host_record(&plan.file.path);
        plan.record.write(&path).map_err(|source| HostError::Record { path, source })?;
    }
    Ok(())
}

fn record_of(places: &Places, file: &ConfigFile) -> Result<HostRecord, HostError> {
    let path = places.home.host_record(&file.path);
    let record = HostRecord::read(&path).map_err(|source| HostError::Record { path, source })?;
    Ok(record.unwrap_or_else(|| HostRecord::new(file.path.clone())))
}

fn plan_install(places: &Places, recipe: &Recipe, argv: &[String], sandbox_only: bool) -> Result<Vec<Plan>, HostError> {
    let there = entry_in(recipe)?;
    if there.as_ref().is_some_and(|entry| !is_pyro(recipe, entry)) {
        return Err(HostError::Foreign { path: recipe.servers.path.clone() });
    }
    let mut plans = Vec::new();
    for (file, edits) in by_file(recipe, entry_edits(recipe, there.as_ref(), argv), sandbox_only) {
        let before = file.read()?;
        let mut record = record_of(places, &file)?;
        if before.is_none() {
            record.made_file = true;
            record.changes.clear();
        }
        let mut document = file.parse(before.as_deref())?;
        let pending = edits.iter().any(|edit| !edit.holds(&document));
        apply(&file, &edits, &mut document, &mut record.changes)?;
        let after = if pending { Some(document.text()) } else { before.clone() };
        let moves_entry = there.is_none() && file == recipe.servers;
        plans.push(Plan { file, before, after, record, moves_entry });
    }
    Ok(plans)
}

fn plan_removal(places: &Places, recipe: &Recipe) -> Result<Vec<Plan>, HostError> {
    let entry = recipe.entry_path();
    let mut files = vec![recipe.servers.clone()];
    files.extend(recipe.restrictions.iter().map(|(file, _)| file.clone()).filter(|file| *file != recipe.servers));
    files.dedup();
    let mut plans = Vec::new();
    for file in files {
        let before = file.read()?;
        let mut record = record_of(places, &file)?;
        let mut document = file.parse(before.as_deref())?;
        let is_here = file == recipe.servers && document.value(&entry).is_some_and(|value| is_pyro(recipe, &value));
        if is_here {
            document.unset(&entry);
        }
        for change in record.changes.iter().rev() {
            if change.path.starts_with(&entry) {
                if document.value(&entry).is_none() {
                    remove_empty_parents(&mut document, change);
                }
            } else {
                // What its user has changed since is theirs.
                take_back(&mut document, change);
            }
        }
        let after = before.as_ref().map(|_| document.text());
        let after = after.filter(|text| !(record.made_file && file.is_blank(text)));
        (record.made_file, record.changes) = (false, Vec::new());
        plans.push(Plan { file, before, after, record, moves_entry: is_here });
    }
    Ok(plans)
}

impl Plan {
    fn changes(&self) -> bool {
        self.before != self.after
    }
}

impl Outcome {
    /// Whether anything was changed, or would be.
    pub(crate) fn is_change(&self) -> bool {
        self.files.iter().any(|(_, changed)| *changed)
    }

    fn of(recipe: &Recipe, plans: &[Plan]) -> Self {
        Self {
            host: ChatHost::ClaudeCode,
            scope: Scope::User,
            title: recipe.title,
            argv: Vec::new(),
            was_there: !plans.iter().any(|plan| plan.moves_entry),
            files: plans.iter().map(|plan| (plan.file.path.clone(), plan.changes())).collect(),
            diff: plans
                .iter()
                .map(|plan| diff(&plan.file.path, plan.before.as_deref(), plan.after.as_deref()))
                .collect(),
            own_command: None,
            notes: Vec::new(),
            answer: None,
        }
    }
}

impl Recipe {
    pub(super) fn entry_path(&self) -> Vec<String> {
        let mut path = self.table.clone();
        path.push(SERVER_NAME.to_owned());
        path
    }
}

/// The entry called pyro, if there is one.
pub(super) fn entry_in(recipe: &Recipe) -> Result<Option<Value>, HostError> {
    let Some(text) = recipe.servers.read()? else { return Ok(None) };
    Ok(recipe.servers.parse(Some(&text))?.value(&recipe.entry_path()))
}

/// Whether an entry of that name is ours: there are other programs that could be called so.
pub(super) fn is_pyro(recipe: &Recipe, entry: &Value) -> bool {
    let Some(argv) = recipe.form.argv(entry) else { return false };
    argv.windows(2).any(|pair| pair == ["mcp", "serve"])
}

/// What makes an entry say what it must. One that is there keeps what else its user gave it.
fn entry_edits(recipe: &Recipe, there: Option<&Value>, argv: &[String]) -> Vec<Edit> {
    let mut fields = recipe.fixed.clone();
    fields.retain(|(key, _)| there.is_none() || *key == "type");
    let after_type = fields.iter().position(|(key, _)| *key != "type").unwrap_or(fields.len());
    fields.splice(after_type..after_type, recipe.form.fields(argv));
    if there.is_some_and(|entry| entry.get("enabled") == Some(&Value::Bool(false))) {
        fields.push(("enabled", Value::Bool(true)));
    }
    let set = |(key, value): (&str, Value)| {
        let mut path = recipe.entry_path();
        path.push(key.to_owned());
        Edit::Set { path, value }
    };
    fields.into_iter().map(set).collect()
}

/// The edits, gathered by the file that they are of.
fn by_file(recipe: &Recipe, entry: Vec<Edit>, sandbox_only: bool) -> Vec<(ConfigFile, Vec<Edit>)> {
    let mut files = vec![(recipe.servers.clone(), Vec::new())];
    for (file, edit) in recipe.restrictions.iter().filter(|_| sandbox_only) {
        match files.iter_mut().find(|(known, _)| known == file) {
            Some((_, edits)) => edits.push(edit.clone()),
            None => files.push((file.clone(), vec![edit.clone()])),
        }
    }
    files[0].1.extend(entry);
    files
}

fn apply(
    file: &ConfigFile,
    edits: &[Edit],
    document: &mut Document,
    changes: &mut Vec<pyro_engine::store::host_record::HostChange>,
) -> Result<(), HostError> {
    for edit in edits {
        edit.apply(document, changes).map_err(|blocked| HostError::Blocked {
            path: file.path.clone(),
            key: blocked.key,
            expected: blocked.expected,
        })?;
    }
    Ok(())
}

fn own_words(words: &[&str], argv: &[String]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).chain(argv.iter().cloned()).collect()
}
