//! Which paths a comparison is limited to.

use pyro_wire::changes::PATHS_MAX;
use pyro_wire::exec::Word;
use pyro_wire::lifecycle::WORKSPACE_MOUNT;
use pyro_wire::{Fault, FaultKind};

use super::super::shown;

/// The paths that were asked for, relative to the workspace; none for all of it.
#[derive(Debug)]
pub(super) struct Scope {
    paths: Vec<Vec<u8>>,
}

/// How a path lies to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It was asked for, or lies below what was.
    Inside,
    /// What was asked for lies below it.
    Above,
    Outside,
}

impl Scope {
    /// Reads the paths of a request.
    pub(super) fn read(paths: &[Word]) -> Result<Self, Fault> {
        if paths.len() > PATHS_MAX {
            return Err(Fault::new(FaultKind::LimitReached, format!("more than {PATHS_MAX} paths were named")));
        }
        let paths = paths.iter().map(|path| relative(path.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        // The workspace itself is all of it.
        Ok(Self { paths: if paths.iter().any(Vec::is_empty) { Vec::new() } else { paths } })
    }

    /// How `path` lies to what was asked for.
    pub(super) fn place(&self, path: &[u8]) -> Place {
        if self.paths.is_empty() || self.paths.iter().any(|asked| is_at_or_below(path, asked)) {
            return Place::Inside;
        }
        if self.paths.iter().any(|asked| is_at_or_below(asked, path)) { Place::Above } else { Place::Outside }
    }

    pub(super) fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A path relative to the workspace, without empty parts and dots.
fn relative(path: &[u8]) -> Result<Vec<u8>, Fault> {
    let outside = || Fault::new(FaultKind::InvalidArgument, format!("{} is not in {WORKSPACE_MOUNT}", shown(path)));
    let inner = match path.strip_prefix(b"/") {
        None => path,
        Some(_) => match path.strip_prefix(WORKSPACE_MOUNT.as_bytes()) {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
            _ => return Err(outside()),
        },
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in inner.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or_else(outside)?),
            _ => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use pyro_wire::exec::Word;

    use super::{Place, Scope, relative};

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(relative(path.as_bytes()).ok().as_deref(), expected.map(str::as_bytes), "{path}");
    }

    #[test]
    fn paths_are_relative_to_the_workspace() {
        check("src", Some("src"));
        check("./src//x/", Some("src/x"));
        check("/workspace", Some(""));
        check("/workspace/src/../x", Some("x"));
        check("/workspaces/x", None);
        check("/etc", None);
        check("../x", None);
    }

    #[test]
    fn a_path_is_inside_above_or_outside() {
        let scope = Scope::read(&[Word::from("a/b"), Word::from("/workspace/c")]).expect("valid");
        let places = ["a", "a/b", "a/b/c", "a/bc", "c", "d"].map(|path| scope.place(path.as_bytes()));
        let expected = [Place::Above, Place::Inside, Place::Inside, Place::Outside, Place::Inside, Place::Outside];
        assert_eq!(places, expected);
        assert_eq!(Scope::read(&["a".into(), "/workspace/".into()]).expect("valid").place(b"d"), Place::Inside);
    }
}
