//! Codex: everything in `config.toml`, its user's or that of a project it trusts.

use serde_json::json;

use super::change::Edit;
use super::document::Format;
use super::file::ConfigFile;
use super::{CommandForm, HostError, Places, Recipe, Scope, keys};

pub(super) fn recipe(places: &Places, scope: Scope) -> Result<Recipe, HostError> {
    let path = match scope {
        Scope::Project => places.project.join(".codex/config.toml"),
        Scope::User | Scope::Local => places.codex_dir()?.join("config.toml"),
    };
    let file = ConfigFile { path, format: Format::Toml, blank: "" };
    let own = matches!(scope, Scope::User);
    let restrictions =
        [(keys(&["sandbox_mode"]), json!("read-only")), (keys(&["features", "shell_tool"]), json!(false))];
    Ok(Recipe {
        title: "Codex",
        program: "codex",
        package: "@openai/codex",
        servers: file.clone(),
        table: keys(&["mcp_servers"]),
        form: CommandForm::Split,
        fixed: Vec::new(),
        own_add: own.then(|| vec!["mcp", "add", super::SERVER_NAME, "--"]),
        own_remove: own.then(|| vec!["mcp", "remove", super::SERVER_NAME]),
        restrictions: restrictions.map(|(path, value)| (file.clone(), Edit::Set { path, value })).into(),
        taken: "away Codex's shell (features.shell_tool), and lets nothing be written from its sandbox (sandbox_mode)",
        kept: "Codex has no setting that takes its apply_patch away: it stays, and writes only what you approve",
        hint: match scope {
            Scope::Project => "Codex reads a project's configuration once you trust the project",
            Scope::User | Scope::Local => "it runs pyro's tools without asking, in codex exec, too",
        },
        passes_environment: false,
    })
}
