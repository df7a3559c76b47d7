//! Which tools in which profile: everything an agent can ask.

use clap::ValueEnum;

use super::tool::ToolDef;
use super::{diff, exec, export, files, patch, run, sync, workspace};

/// A set of tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// One tool: a command in a machine of its own
    VmRun,
    /// Workspaces: the whole loop of a coding task
    #[default]
    WorkspaceCore,
}

const VM_RUN: &[&ToolDef] = &[&run::VM_RUN];

const WORKSPACE_CORE: &[&ToolDef] = &[
    &run::VM_RUN,
    &workspace::CREATE,
    &workspace::LIST,
    &workspace::UPDATE,
    &workspace::STATUS,
    &sync::PUSH,
    &exec::EXEC,
    &exec::EXEC_WAIT,
    &exec::LOGS,
    &files::LIST,
    &files::READ,
    &files::WRITE,
    &files::EDIT,
    &files::SEARCH,
    &patch::APPLY,
    &diff::DIFF,
    &export::EXPORT,
    &workspace::RESET,
    &workspace::DELETE,
];

const VM_RUN_INSTRUCTIONS: &str = "\
Run commands in a disposable Linux virtual machine instead of on the user's computer: vm_run starts a fresh machine, runs \
one shell command, returns its output, and throws the machine away. No network, no access to the user's files, nothing kept.";

const WORKSPACE_CORE_INSTRUCTIONS: &str = "\
Disposable Linux virtual machines to work in instead of on the user's computer: seed one with a repository, install, edit, run \
tests, reset and retry, take the patch home. Nothing in them can touch the user's files.

The loop:
1. workspace_create with seed_path (a directory of the project) makes a machine with a copy at /workspace.
2. Look: workspace_file_list, workspace_file_search, workspace_file_read.
3. Change: workspace_file_edit, workspace_file_write, workspace_patch_apply.
4. Run: workspace_exec runs a shell command in /workspace. It answers within 45 s; longer ones go on, and workspace_exec_wait \
follows them.
5. workspace_diff shows what changed since the seed, as a patch for git apply. workspace_export writes files, or the patch, to the \
user's computer.
6. Gone wrong? workspace_reset puts everything back in about a second. Done? workspace_delete.

You are root in the machine; there is no network. Use one workspace a task. Commands do not share a shell: pass cwd and env each \
time. workspace_list shows workspaces of earlier sessions. vm_run is for one command that needs no files.";

impl Profile {
    /// Its tools.
    pub(super) fn tools(self) -> &'static [&'static ToolDef] {
        match self {
            Self::VmRun => VM_RUN,
            Self::WorkspaceCore => WORKSPACE_CORE,
        }
    }

    /// What a model is told about them. Hosts show the first 240 characters for sure.
    pub(super) fn instructions(self) -> &'static str {
        match self {
            Self::VmRun => VM_RUN_INSTRUCTIONS,
            Self::WorkspaceCore => WORKSPACE_CORE_INSTRUCTIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn every_host_passes_names_and_words_on_whole() {
        for profile in [Profile::VmRun, Profile::WorkspaceCore] {
            assert!(profile.instructions().len() < 2048);
            for tool in profile.tools() {
                // With the server's name before it, a host allows 50 characters to be sure.
                assert!(tool.name.len() + "pyro".len() <= 50, "{}", tool.name);
                assert!(tool.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", tool.name);
                assert!(tool.description.len() < 2000, "{}", tool.name);
                // Over 5,000 bytes Codex leaves out what parameters mean.
                let schema = serde_json::to_string(&(tool.schema)()).unwrap();
                assert!(schema.len() < 4900, "{}: {}", tool.name, schema.len());
            }
        }
    }
}
