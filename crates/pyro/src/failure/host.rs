//! The words for what goes wrong with a chat host's configuration.

use super::{Failure, Kind};
use crate::host::HostError;

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let words = |kind| Self::of(kind, &error);
        match &error {
            HostError::NoHome { .. } => words(Kind::Usage).hint("set HOME"),
            HostError::Unreadable { .. } => {
                words(Kind::HostNotReady).hint("make the file readable for you; nothing was changed")
            }
            HostError::Syntax { .. } => {
                words(Kind::Conflict).hint("correct the line, which the host cannot read either; nothing was changed")
            }
            HostError::Blocked { key, .. } => {
                words(Kind::Conflict).hint(format!("change '{key}' by hand, then try again; nothing was changed"))
            }
            HostError::Foreign { .. } => words(Kind::Conflict)
                .hint("it does not run 'pyro mcp serve'; rename it in that file, or remove it; nothing was changed"),
            HostError::ChangedMeanwhile { .. } => words(Kind::Conflict).hint("try again"),
            HostError::Unwritable { .. } => {
                words(Kind::HostNotReady).hint("is the disk full, or the directory not yours?")
            }
            HostError::Record { path, .. } => {
                let path = path.display();
                words(Kind::HostNotReady)
                    .hint(format!("make it readable, or remove {path}: pyro forgets what it changed"))
            }
            HostError::Lock(_) => words(Kind::HostNotReady).hint("is the state directory yours? see 'pyro doctor'"),
            HostError::OwnPath { .. } => words(Kind::HostNotReady).hint("was pyro just updated? start it anew"),
            HostError::BadDirectory { .. } => words(Kind::Usage).hint("name a directory that is there"),
            HostError::BadSecretFile { .. } => words(Kind::Usage).hint("name a file that is there"),
            HostError::NotText { .. } => words(Kind::Usage).hint("move it to a path in UTF-8"),
        }
    }
}
