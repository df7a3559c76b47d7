//! OpenCode: everything in `opencode.json` or `opencode.jsonc`, its user's or a project's. It has a command that adds a
//! server, but none that changes or removes one, and that one takes seconds to start: the file is changed here.

use std::path::Path;

use serde_json::json;

use super::change::Edit;
use super::document::Format;
use super::file::ConfigFile;
use super::{CommandForm, HostError, Places, Recipe, Scope, keys};

/// What OpenCode itself begins a file with.
const BLANK: &str = "{\n  \"$schema\": \"https://opencode.ai/config.json\"\n}\n";

/// The files that one directory may have. Where there are both, OpenCode reads both, and the first wins.
const NAMES: [&str; 2] = ["opencode.jsonc", "opencode.json"];

pub(super) fn recipe(places: &Places, scope: Scope) -> Result<Recipe, HostError> {
    let dir = match scope {
        Scope::Project => places.project.clone(),
        Scope::User | Scope::Local => places.config_dir()?.join("opencode"),
    };
    let file = configuration(&dir);
    let deny = |what| (file.clone(), Edit::Set { path: keys(&["permission", what]), value: json!("deny") });
    Ok(Recipe {
        title: "OpenCode",
        program: "opencode",
        package: "opencode-ai",
        servers: file.clone(),
        table: keys(&["mcp"]),
        form: CommandForm::Joined,
        fixed: vec![("type", json!("local"))],
        own_add: None,
        own_remove: None,
        restrictions: ["bash", "edit"].map(deny).into(),
        taken: "away OpenCode's tools that run commands and change files: bash, edit, write",
        kept: "it keeps its tools that read files and the web; an agent of your own may still allow what you deny here",
        hint: "it does not ask before pyro's tools; \"permission\" in its configuration can make it",
        passes_environment: true,
    })
}

fn configuration(dir: &Path) -> ConfigFile {
    let found = NAMES.iter().map(|name| dir.join(name)).find(|path| path.exists());
    let path = found.unwrap_or_else(|| dir.join("opencode.json"));
    ConfigFile { path, format: Format::Json, blank: BLANK }
}
