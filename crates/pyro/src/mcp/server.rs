//! The server as the protocol sees it: who it is, which tools it has, and how a call gets to its tool.

use std::borrow::Cow;
use std::sync::Arc;

use pyro_engine::Settings;
use pyro_engine::environment::{Environments, InstalledState};
use pyro_engine::store::workspace_record::{Origin, WorkspacePhase};
use pyro_engine::workspace::client::Connection;
use pyro_engine::workspace::{Workspace, Workspaces};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::answer::failed;
use super::host_paths::HostPaths;
use super::profile::Profile;
use super::tool::{Call, ToolDef};
use crate::failure::{Failure, Kind};

/// Longest name of a chat host, or of its session, that is written down, in characters.
const ORIGIN_CHARS_MAX: usize = 100;

/// What a server is started with.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) settings: Arc<Settings>,
    pub(super) host_paths: Arc<HostPaths>,
    pub(super) profile: Profile,
    /// The chat host's session, where its environment tells it.
    pub(super) session: Option<String>,
}

/// A workspace that takes commands, and what its caller should know of how it came to.
pub(super) struct Ready {
    pub(super) workspace: Workspace,
    pub(super) connection: Connection,
    /// A line for the top of the answer.
    pub(super) note: Option<String>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let implementation = Implementation::new("pyro", env!("CARGO_PKG_VERSION")).with_title("pyro workspaces");
        ServerConfig::new(capabilities).with_server_info(implementation).with_instructions(self.profile.instructions())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let environments = self.environments();
        let tools = self.profile.tools().iter().map(|tool| tool.describe(&environments)).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = self.tool(&request.name) else {
            let name: String = request.name.chars().take(80).collect();
            let names: Vec<&str> = self.profile.tools().iter().map(|tool| tool.name).collect();
            let words = format!("there is no tool '{name}'; there are {}", names.join(", "));
            return Err(ErrorData::invalid_params(words, None));
        };
        Ok(self.carry_out(tool, request, context).await.into())
    }
}

impl Server {
    async fn carry_out(
        &self,
        tool: &ToolDef,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let by = self.origin(&context);
        let call = Call { context, by };
        match (tool.call)(self, request.arguments.unwrap_or_default(), &call).await {
            Ok(answer) => answer.into_result(),
            Err(failure) => failed(&failure),
        }
    }

    fn tool(&self, name: &str) -> Option<&'static ToolDef> {
        self.profile.tools().iter().copied().find(|tool| tool.name == name)
    }

    /// Which chat host and session a call comes from.
    fn origin(&self, context: &RequestContext<RoleServer>) -> Origin {
        let bounded = |text: &str| text.chars().filter(|one| !one.is_control()).take(ORIGIN_CHARS_MAX).collect();
        let host = context.client_info().map(|client| bounded(&client.name));
        let told = ["sessionId", "threadId"].iter().find_map(|key| context.meta.get(*key)?.as_str().map(bounded));
        Origin { host, session: told.or_else(|| self.session.as_deref().map(bounded)) }
    }

    /// The environments that are installed, in words for a tool's description.
    fn environments(&self) -> String {
        let list = Environments::new(&self.settings).list().unwrap_or_default();
        let names: Vec<String> = list
            .into_iter()
            .filter(|one| matches!(one.installed, InstalledState::Yes { .. }))
            .map(|one| one.name)
            .collect();
        match names.as_slice() {
            [] => "none is installed yet: ask the user to run 'pyro env pull debian:12'".to_owned(),
            names => format!("installed: {}", names.join(", ")),
        }
    }

    /// The workspaces of this host.
    pub(super) fn workspaces(&self) -> Workspaces<'_> {
        Workspaces::new(&self.settings)
    }

    /// The way to a workspace. One that was stopped is started again: nothing in it was lost, and a model has no use
    /// for the difference but to know of it.
    pub(super) async fn connect(&self, word: &str) -> Result<Ready, Failure> {
        let workspaces = self.workspaces();
        let workspace = workspaces.find(word).map_err(teach)?;
        if let Ok(connection) = workspace.connect() {
            return Ok(Ready { workspace, connection, note: None });
        }
        if workspace.state.phase == WorkspacePhase::Creating {
            return Err(Failure::new(Kind::Conflict, format!("workspace {word} is still being made"))
                .hint("call workspace_list in a few seconds"));
        }
        let reason = workspace.state.reason.clone().unwrap_or_else(|| "it was stopped".to_owned());
        let id = workspace.record.id.clone();
        let started = workspaces.start(&id, &|_| ()).await.map_err(teach)?;
        let connection = started.connect().map_err(teach)?;
        let note = format!(
            "[the workspace had stopped ({reason}); it runs again, files are as they were, processes are gone]"
        );
        Ok(Ready { workspace: started, connection, note: Some(note) })
    }
}

/// A failure whose hints speak of tools, not of the command line.
pub(super) fn teach(error: pyro_engine::workspace::WorkspaceError) -> Failure {
    use pyro_engine::workspace::WorkspaceError as E;
    let hint: Option<Cow<'static, str>> = match &error {
        E::NotFound { known, .. } if known.is_empty() => {
            Some("there is no workspace yet: call workspace_create".into())
        }
        E::NotFound { .. } => Some("call workspace_list for the ids and names there are".into()),
        E::NameTaken { id, .. } => Some(format!("choose another name, or use workspace {id}").into()),
        E::NoMemory { .. } => {
            Some("call workspace_delete on one that is no longer needed, or ask for less with mem_mib".into())
        }
        E::Stopped { .. } | E::Failed { .. } | E::Creating { .. } => Some("call workspace_status to see why".into()),
        E::UnseenChanges { .. } => {
            Some("call workspace_diff or workspace_export first, or pass discard: true to lose them".into())
        }
        E::UnknownChanges { .. } => Some("call workspace_diff first, or pass discard: true".into()),
        E::EnvironmentChanged { .. } => Some("call workspace_create for a new one".into()),
        E::NoCommand { .. } => Some("call workspace_logs for the commands there are".into()),
        E::Environment(_) => Some("ask the user to run 'pyro env pull' for it, or pass another environment".into()),
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
