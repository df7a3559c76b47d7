//! The server as the protocol sees it: who it is, which tools it has, and how a call gets to its tool.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_engine::Settings;
use pyro_engine::environment::InstalledState;
use pyro_engine::store::workspace_record::{Origin, WorkspacePhase};
use pyro_engine::supervisor::secrets::Secrets;
use pyro_engine::workspace::client::Connection;
use pyro_engine::workspace::{Workspace, Workspaces};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult, ErrorCode,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::answer::failed;
use super::disk::DiskExports;
use super::host_paths::HostPaths;
use super::profile::Profile;
use super::progress::beat;
use super::prompts;
use super::tool::{Call, ToolDef};
use crate::failure::{Failure, Kind};

/// Longest name of a chat host, or of its session, that is written down, in characters.
const ORIGIN_CHARS_MAX: usize = 100;

/// Longest time of a call, whatever it does: the least patient host gives up at 60 s, and what takes longer by its nature
/// answers before, with a way to go on.
const ANSWER_WITHIN: Duration = Duration::from_secs(44);

/// How long a cancelled call may take to end what it began.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// The methods that are served.
const METHODS: [&str; 7] =
    ["initialize", "ping", "server/discover", "tools/list", "tools/call", "prompts/list", "prompts/get"];

/// What a server is started with.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) settings: Arc<Settings>,
    pub(super) host_paths: Arc<HostPaths>,
    pub(super) profile: Profile,
    /// The chat host's session, where its environment tells it.
    pub(super) session: Option<String>,
    /// Secrets that its user gave it for the workspaces it makes.
    pub(super) secrets: Arc<Secrets>,
    /// Hosts that a model may open for a workspace.
    pub(super) allowed_hosts: Arc<Vec<String>>,
    /// Disks that are being written to the host.
    pub(super) disk_exports: DiskExports,
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
        let mut capabilities = ServerCapabilities::builder().enable_tools().enable_prompts().build();
        if self.profile.prompts().is_empty() {
            capabilities.prompts = None;
        }
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

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        match self.profile.prompts() {
            [] => Err(refusal("prompts/list of this profile")),
            prompts => Ok(ListPromptsResult::with_all_items(prompts.iter().map(|prompt| prompt.describe()).collect())),
        }
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::fill(self.profile.prompts(), request).map(Into::into)
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Err(refusal(&request.method))
    }
}

/// Why a request is not carried out that the SDK could not read: its method is unknown, or its parameters are none of it.
pub(super) fn refusal(method: &str) -> ErrorData {
    let shown: String = method.chars().filter(|one| !one.is_control()).take(80).collect();
    if METHODS.contains(&method) {
        let needs = if method.ends_with("/call") || method.ends_with("/get") {
            ": params is an object with a name, which is a text, and arguments, which is an object"
        } else {
            ""
        };
        return ErrorData::invalid_params(format!("these are no parameters of {shown}{needs}"), None);
    }
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("unknown method: {shown}"), None)
}

impl Server {
    async fn carry_out(
        &self,
        tool: &ToolDef,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let by = self.origin(&context);
        let call = Call { context, by, answer_by: Instant::now() + ANSWER_WITHIN };
        let done = tokio::select! {
            done = (tool.call)(self, request.arguments.unwrap_or_default(), &call) => done,
            () = tokio::time::sleep(ANSWER_WITHIN) => Err(late(tool)),
            () = given_up(&call) => Err(Failure::new(Kind::Interrupted { signal: 2 }, "the call was cancelled")),
            never = beat(&call, tool.title) => match never {},
        };
        match done {
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
        // Codex calls itself by the name of a part of it, which its user never sees.
        let known = |name: &str| if name == "codex-mcp-client" { "codex".to_owned() } else { bounded(name) };
        let host = context.client_info().map(|client| known(&client.name));
        let told = ["sessionId", "threadId"].iter().find_map(|key| context.meta.get(*key)?.as_str().map(bounded));
        Origin { host, session: told.or_else(|| self.session.as_deref().map(bounded)) }
    }

    /// The environments that are installed, in words for a tool's description.
    fn environments(&self) -> String {
        let list = self.settings.environments().list().unwrap_or_default();
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
        // Its new supervisor has to be told again what this server knows of its secrets.
        let secrets = self.secrets.named(&workspace.record.secrets);
        let started = workspaces.start(&id, &secrets, &|_| ()).await.map_err(teach)?;
        let connection = started.connect().map_err(teach)?;
        let missing = match secrets.missing(&started.record.secrets) {
            names if names.is_empty() => String::new(),
            names => format!("; its secrets {} have to be told again by the user", names.join(", ")),
        };
        let note = format!(
            "[the workspace had stopped ({reason}); it runs again, files are as they were, processes are gone{missing}]"
        );
        Ok(Ready { workspace: started, connection, note: Some(note) })
    }
}

/// A call that is given up because its caller will not wait any longer. What goes on in a guest for it is ended with it.
fn late(tool: &ToolDef) -> Failure {
    let seconds = ANSWER_WITHIN.as_secs();
    let hint = match tool.name {
        "vm_run" => {
            "give it less to do; if the machine is slow to start, ask the user to run 'pyro run debian:12 -- true' once"
        }
        "workspace_reset" => "it may still be going on: call workspace_status in a few seconds",
        _ => {
            "call workspace_status to see whether the workspace is well, then ask for less at a time, or run a command with \
             workspace_exec, which goes on"
        }
    };
    Failure::new(Kind::Guest, format!("{} did not end within {seconds} s and was given up", tool.name)).hint(hint)
}

/// Waits until the caller does not want the answer any more, and the tool had its time to end what it began.
async fn given_up(call: &Call) {
    call.context.ct.cancelled().await;
    tokio::time::sleep(CANCEL_GRACE).await;
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
        E::NoShell { known, .. } if known.is_empty() => Some("there is none: call shell_open".into()),
        E::DiskInUse { .. } => Some("call workspace_file_list or workspace_file_read, or workspace_stop first".into()),
        E::SecretsOnDisk { .. } => Some("call workspace_start, and then workspace_file_read".into()),
        E::OutputExists { .. } => Some("choose another output_path".into()),
        E::NoCommand { .. } => Some("call workspace_logs for the commands there are".into()),
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
