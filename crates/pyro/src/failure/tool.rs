//! The words for what goes wrong with a workspace's files.

use pyro_engine::workspace::export::ExportError;
use pyro_engine::workspace::files::{ChangeError, Difference};
use pyro_engine::workspace::guest_path::BadPath;
use pyro_engine::workspace::patch::PatchError;
use pyro_engine::workspace::tool::{Fault, FaultKind, ToolError};

use super::{Failure, Kind};
use crate::report::patch::rejection_lines;

/// Most rejected files of a patch that are shown with their lines.
const REJECTIONS_SHOWN_MAX: usize = 5;

const RESET: &str = "'pyro workspace reset' gives it a fresh machine";

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        match &error {
            ToolError::Fault(fault) => of_fault(fault),
            ToolError::Ended { .. } => {
                Self::of(Kind::Guest, &error).hint("is the guest short of memory? try again, or ask for less at once")
            }
            ToolError::Silent { .. } => Self::of(Kind::Guest, &error)
                .hint("ask for less at once; if the guest hangs, 'pyro workspace reset' gives it a fresh machine"),
            ToolError::Lost { .. } => {
                Self::of(Kind::Guest, &error).hint("'pyro workspace status' says what became of it")
            }
            ToolError::Garbled { .. } => Self::of(Kind::Guest, &error).hint(RESET),
            ToolError::TooLong { .. } => Self::of(Kind::Guest, &error).hint("ask for less at once"),
            ToolError::Record { .. } => {
                Self::of(Kind::HostNotReady, &error).hint("is there room where pyro keeps its state?")
            }
            ToolError::Input { .. } => Self::of(Kind::HostNotReady, &error).hint("look where the input comes from"),
            ToolError::Output { .. } => {
                Self::of(Kind::HostNotReady, &error).hint("look where the output goes: is there room?")
            }
        }
    }
}

fn of_fault(fault: &Fault) -> Failure {
    let failure = |kind| Failure::new(kind, fault.message.clone());
    match fault.kind {
        FaultKind::NotFound | FaultKind::ProgramNotFound | FaultKind::BadWorkingDirectory => {
            failure(Kind::NotFound).hint("'pyro workspace file list' shows what is there")
        }
        FaultKind::WrongKind => failure(Kind::Usage).hint("name one of the right kind"),
        FaultKind::InvalidArgument => failure(Kind::Usage).hint("correct the argument"),
        FaultKind::TooLarge => failure(Kind::Usage).hint("take a smaller one, or work on it with a command"),
        FaultKind::NoSpace => {
            failure(Kind::Guest).hint("remove something in the guest, or create it with more --disk-gib")
        }
        FaultKind::LimitReached => failure(Kind::Conflict).hint("end other commands first"),
        FaultKind::Io => failure(Kind::Guest).hint("a command in the guest may say more"),
        FaultKind::ConnectionRefused | FaultKind::NotReady => {
            failure(Kind::Guest).hint("is it started, and does it listen there?")
        }
        FaultKind::ProgramNotExecutable
        | FaultKind::WrongPhase
        | FaultKind::DeviceMissing
        | FaultKind::Mount
        | FaultKind::Defect => failure(Kind::Guest).hint(RESET),
    }
}

impl From<BadPath> for Failure {
    fn from(error: BadPath) -> Self {
        Self::of(Kind::Usage, &error).hint("name a path in the guest, such as /workspace/src or src")
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::TooLarge => {
                Self::of(Kind::Usage, &error).hint("send it with 'pyro workspace sync push', or in parts")
            }
            ChangeError::Missing { nearest, difference, path } => {
                let failure = Self::of(Kind::NotFound, &error);
                match (nearest.first(), difference) {
                    (Some(_), Some(Difference::LineEnds)) => failure.hint("write the text with the file's line ends"),
                    (Some(line), _) => failure.hint(format!("line {} says: {}", line.number, line.text.trim())),
                    (None, _) => failure.hint(format!("'pyro workspace file read' shows {}", path.short())),
                }
            }
            ChangeError::Ambiguous { .. } => {
                Self::of(Kind::Conflict, &error).hint("add what stands around it, or replace all with --replace-all")
            }
            ChangeError::Tool(_) => match error {
                ChangeError::Tool(error) => error.into(),
                error => Self::of(Kind::Internal, &error),
            },
        }
    }
}

impl From<PatchError> for Failure {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::TooLarge { .. } => Self::of(Kind::Usage, &error).hint("apply it in parts"),
            PatchError::Rejected { ref rejections, count } => {
                let mut details: Vec<String> =
                    rejections.iter().take(REJECTIONS_SHOWN_MAX).flat_map(rejection_lines).collect();
                if count == 1 && !details.is_empty() {
                    // The error says it already.
                    details.remove(0);
                }
                let left = count.saturating_sub(REJECTIONS_SHOWN_MAX as u64);
                if left > 0 {
                    details.push(format!("and {left} more"));
                }
                Self::of(Kind::Conflict, &error)
                    .hint("nothing was changed; make the patch fit what is there now")
                    .details(details)
            }
            PatchError::Tool(error) => error.into(),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let words = |kind| Self::of(kind, &error);
        match error {
            ExportError::Exists { .. } => words(Kind::Conflict).hint("name another place, or replace it with --force"),
            ExportError::NoDirectory { .. } => {
                words(Kind::Usage).hint("make its directory first, or name another place")
            }
            ExportError::Write { .. } => words(Kind::HostNotReady).hint("is there room, and is the directory yours?"),
            ExportError::Secrets { .. } => words(Kind::Conflict)
                .hint("nothing was written; take it out of the guest's files, or write it with --with-secrets"),
            ExportError::TooMuch { .. } => words(Kind::Conflict).hint("export a part of it"),
            ExportError::Diff(error) => error.into(),
            ExportError::Tool(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_engine::workspace::files::{ChangeError, NearLine};
    use pyro_engine::workspace::guest_path::GuestPath;
    use pyro_engine::workspace::tool::{Fault, FaultKind, ToolError};

    use super::Failure;

    #[track_caller]
    fn check(failure: impl Into<Failure>, text: &str) {
        assert_eq!(failure.into().text(false), text);
    }

    #[test]
    fn a_fault_of_the_guest_is_told_in_its_words() {
        let fault = Fault::new(FaultKind::NotFound, "cannot open /x\x1b[2J: it is not there");
        let expected = "error: cannot open /x\\u{1b}[2J: it is not there\n\
             hint: 'pyro workspace file list' shows what is there\n";
        check(ToolError::Fault(fault.clone()), expected);
        check(ChangeError::Tool(ToolError::Fault(fault)), expected);
    }

    #[test]
    fn an_edit_that_misses_shows_what_is_near() {
        let path = GuestPath::new("src/main.rs").expect("a path");
        let nearest = vec![NearLine { number: 7, text: "    run(1);".to_owned() }];
        let missing = ChangeError::Missing { path, nearest, difference: None };
        let expected = "error: the text is not in /workspace/src/main.rs; most like it: line 7\n\
             hint: line 7 says: run(1);\n";
        check(missing, expected);
    }
}
