//! Claude Code: servers in `~/.claude.json` or a project's `.mcp.json`, permissions in `settings.json`.

use serde_json::json;

use super::change::Edit;
use super::document::Format;
use super::file::ConfigFile;
use super::{CommandForm, HostError, Places, Recipe, Scope, keys};

/// The tools that run commands or change files. A denied tool is not shown to the model, nor to its subagents.
const OWN_TOOLS: [&str; 6] = ["Bash", "PowerShell", "Monitor", "Edit", "Write", "NotebookEdit"];

pub(super) fn recipe(places: &Places, scope: Scope) -> Result<Recipe, HostError> {
    let json = |path| ConfigFile { path, format: Format::Json, blank: "{}\n" };
    let settings = json(match scope {
        Scope::User | Scope::Local => places.claude_dir()?.join("settings.json"),
        Scope::Project => places.project.join(".claude/settings.json"),
    });
    let (servers, table) = match scope {
        Scope::User => (json(places.claude_json()?), keys(&["mcpServers"])),
        Scope::Project => (json(places.project.join(".mcp.json")), keys(&["mcpServers"])),
        Scope::Local => {
            let project = places.project.to_string_lossy().into_owned();
            (json(places.claude_json()?), vec!["projects".to_owned(), project, "mcpServers".to_owned()])
        }
    };
    Ok(Recipe {
        title: "Claude Code",
        program: "claude",
        package: "@anthropic-ai/claude-code",
        servers,
        table,
        form: CommandForm::Split,
        fixed: vec![("type", json!("stdio")), ("env", json!({}))],
        own_add: Some(vec!["mcp", "add", "--scope", scope.word(), super::SERVER_NAME, "--"]),
        own_remove: Some(vec!["mcp", "remove", "--scope", scope.word(), super::SERVER_NAME]),
        restrictions: OWN_TOOLS
            .map(|word| (settings.clone(), Edit::Include { path: keys(&["permissions", "deny"]), word }))
            .into(),
        taken: "away Claude Code's tools that run commands and change files: Bash, Edit, Write and their like",
        kept: "it keeps its tools that read files and the web",
        hint: match scope {
            Scope::Project => "Claude Code asks once whether this project's servers may run",
            Scope::User | Scope::Local => {
                "it asks before each tool until you allow it; unattended: claude -p --allowedTools mcp__pyro"
            }
        },
        passes_environment: true,
    })
}
