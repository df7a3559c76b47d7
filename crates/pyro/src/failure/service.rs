//! The words for what goes wrong with services and published ports.

use pyro_engine::store::service_record::{ServiceRecord, ServiceState};
use pyro_engine::workspace::WorkspaceError;
use pyro_engine::workspace::ports::PortHolder;

use super::{Failure, Kind};
use crate::report::clean::lines;
use crate::report::service::ServiceRow;

/// The words of a failure of a service or a port.
pub(super) fn words(error: &WorkspaceError) -> Failure {
    match error {
        WorkspaceError::NoService { known, .. } => Failure::of(Kind::NotFound, error).hint(match known.as_slice() {
            [] => "there is none yet; 'pyro workspace service start' starts one".to_owned(),
            known => format!("there are {}", known.join(", ")),
        }),
        WorkspaceError::ServiceNotReady { id, service, last_lines } => not_ready(id, service, last_lines),
        WorkspaceError::PortTaken { holder, .. } => {
            let failure = Failure::of(Kind::Conflict, error);
            match holder {
                PortHolder::ThisWorkspace { service: None } => failure
                    .caused_by("this workspace publishes it already")
                    .hint("'pyro workspace port list' shows where it leads"),
                PortHolder::ThisWorkspace { service: Some(service) } => failure
                    .caused_by(format!("this workspace publishes it for service {service}"))
                    .hint("'pyro workspace port list' shows where it leads"),
                PortHolder::Workspace { called } => failure
                    .caused_by(format!("workspace {called} publishes it"))
                    .hint("choose another port of this host, or name only the guest's: then a free one is taken"),
                PortHolder::Process { pid, program } => failure
                    .caused_by(format!("process {pid} ({program}) listens there"))
                    .hint("choose another port of this host, or name only the guest's: then a free one is taken"),
                PortHolder::Unknown => {
                    failure.hint("choose another port of this host, or name only the guest's: then a free one is taken")
                }
            }
        }
        error => Failure::of(Kind::Internal, error),
    }
}

fn not_ready(id: &str, service: &ServiceRecord, last_lines: &[u8]) -> Failure {
    let name = &service.name;
    let reason = service.reason.clone().unwrap_or_default();
    let row = ServiceRow::from(service.clone());
    let failure = match service.state {
        ServiceState::Exited => {
            Failure::new(Kind::Guest, format!("service {name} ended before it was ready")).caused_by(row.state_words())
        }
        ServiceState::Stopped => {
            Failure::new(Kind::Conflict, format!("service {name} was stopped before it was ready")).caused_by(reason)
        }
        ServiceState::Starting | ServiceState::Running | ServiceState::Failed => {
            Failure::new(Kind::Guest, format!("service {name} did not become ready in its time, and was stopped"))
                .caused_by(reason)
        }
    };
    let failure = failure.hint(format!("'pyro workspace service logs {id} {name}' shows what it printed"));
    let printed = lines(last_lines);
    if printed.trim().is_empty() {
        return failure;
    }
    let shown = printed.lines().map(|line| format!("    {line}"));
    failure.details(std::iter::once("it printed last:".to_owned()).chain(shown).collect())
}

#[cfg(test)]
mod tests {
    use pyro_engine::store::service_record::{SERVICE_RECORD_VERSION, ServiceEnd, ServiceRecord, ServiceState};
    use pyro_engine::store::workspace_record::Origin;
    use pyro_engine::workspace::WorkspaceError;
    use pyro_engine::workspace::ports::PortHolder;

    use super::super::Failure;

    fn told(error: WorkspaceError) -> String {
        Failure::from(error).text(false)
    }

    fn not_ready(state: ServiceState, end: Option<ServiceEnd>, reason: Option<&str>) -> String {
        let service = ServiceRecord {
            version: SERVICE_RECORD_VERSION,
            name: "web".to_owned(),
            argv: vec!["web".to_owned()],
            cwd: "/workspace".to_owned(),
            state,
            end,
            reason: reason.map(str::to_owned),
            started_at_ms: 0,
            ready_at_ms: None,
            ended_at_ms: Some(1100),
            log_from: 0,
            ready: None,
            ports: Vec::new(),
            restart_on_start: false,
            by: Origin::default(),
        };
        let last_lines = b"starting\n\x1b[31mno such table\n".to_vec();
        told(WorkspaceError::ServiceNotReady { id: "fix".to_owned(), service: Box::new(service), last_lines })
    }

    #[test]
    fn what_did_not_become_ready_says_why_and_what_it_printed() {
        insta::assert_snapshot!(
            "not-ready",
            [
                not_ready(ServiceState::Exited, Some(ServiceEnd::Code(3)), None),
                not_ready(ServiceState::Failed, None, Some("http://localhost:8000/ answers 503")),
                not_ready(ServiceState::Stopped, None, Some("it was asked to")),
            ]
            .join("\n")
        );
    }

    #[test]
    fn whoever_holds_a_port_is_named() {
        let taken = |holder| told(WorkspaceError::PortTaken { port: 8080, holder });
        insta::assert_snapshot!(
            "port-taken",
            [
                taken(PortHolder::ThisWorkspace { service: None }),
                taken(PortHolder::ThisWorkspace { service: Some("web".to_owned()) }),
                taken(PortHolder::Workspace { called: "other".to_owned() }),
                taken(PortHolder::Process { pid: 7, program: "nginx".to_owned() }),
                taken(PortHolder::Unknown),
                told(WorkspaceError::NoService { id: "0123456789ab".to_owned(), name: "x".to_owned(), known: vec![] }),
            ]
            .join("\n")
        );
    }
}
