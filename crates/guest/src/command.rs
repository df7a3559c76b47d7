//! What a command request means in the kernel's terms: C strings, an environment, the paths to try.

use std::collections::BTreeMap;
use std::ffi::CString;

use pyro_wire::exec::Word;
use pyro_wire::{ExecRequest, Fault, FaultKind};

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Characters of a guest's name that are repeated in a fault.
const SHOWN_CHARS_MAX: usize = 200;

/// A command, ready to be handed to the kernel.
#[derive(Debug)]
pub(crate) struct Command {
    /// Arguments, the first is the program as it was named.
    pub(crate) argv: Vec<CString>,
    /// `NAME=value`.
    pub(crate) env: Vec<CString>,
    /// Working directory.
    pub(crate) cwd: CString,
    /// Paths at which the program may lie, in order.
    pub(crate) candidates: Vec<CString>,
}

impl Command {
    /// Reads a request.
    ///
    /// # Errors
    /// A word the kernel could not take.
    pub(crate) fn read(request: &ExecRequest) -> Result<Self, Fault> {
        let argv = request.argv.iter().map(|word| c_string("an argument", word)).collect::<Result<Vec<_>, _>>()?;
        let Some(program) = argv.first() else { return Err(invalid("the command has no words")) };
        if program.is_empty() {
            return Err(Fault::new(FaultKind::ProgramNotFound, "the program's name is empty"));
        }
        if !request.cwd.as_bytes().starts_with(b"/") {
            let shown = shown(request.cwd.as_bytes());
            return Err(Fault::new(FaultKind::BadWorkingDirectory, format!("{shown} is not an absolute path")));
        }
        if request.terminal.is_some_and(|size| size.rows == 0 || size.cols == 0) {
            return Err(invalid("a terminal has at least one row and one column"));
        }
        let variables = environment(request)?;
        let path = variables.get("PATH").map(Vec::as_slice).unwrap_or_default();
        let candidates = candidates(program.as_bytes(), path)?;
        let env = variables.iter().map(|(name, value)| variable(name, value)).collect::<Result<_, _>>()?;
        Ok(Self { candidates, env, cwd: c_string("the working directory", &request.cwd)?, argv })
    }

    /// The program as it was named, for people.
    pub(crate) fn shown_program(&self) -> String {
        self.argv.first().map(|program| shown(program.as_bytes())).unwrap_or_default()
    }

    /// The working directory, for people.
    pub(crate) fn shown_cwd(&self) -> String {
        shown(self.cwd.as_bytes())
    }
}

/// Bytes of the guest as text, cut to what a line can hold.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn invalid(message: &str) -> Fault {
    Fault::new(FaultKind::InvalidArgument, message)
}

fn c_string(what: &str, word: &Word) -> Result<CString, Fault> {
    CString::new(word.as_bytes()).map_err(|_| invalid(&format!("{what} holds a NUL byte")))
}

fn environment(request: &ExecRequest) -> Result<BTreeMap<&str, Vec<u8>>, Fault> {
    let mut variables =
        BTreeMap::from([("PATH", PATH_DEFAULT.into()), ("HOME", b"/root".to_vec()), ("LANG", b"C.UTF-8".to_vec())]);
    if request.terminal.is_some() {
        variables.insert("TERM", b"xterm-256color".to_vec());
    }
    for (name, value) in &request.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(invalid(&format!("{:?} is no name of a variable", shown(name.as_bytes()))));
        }
        variables.insert(name, value.as_bytes().to_vec());
    }
    Ok(variables)
}

fn variable(name: &str, value: &[u8]) -> Result<CString, Fault> {
    let bytes = [name.as_bytes(), b"=", value].concat();
    CString::new(bytes).map_err(|_| invalid(&format!("the variable {} holds a NUL byte", shown(name.as_bytes()))))
}

fn candidates(program: &[u8], path: &[u8]) -> Result<Vec<CString>, Fault> {
    let to_c = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| invalid("the variable PATH holds a NUL byte"));
    if program.contains(&b'/') {
        return Ok(vec![to_c(program.to_vec())?]);
    }
    let directories = path.split(|byte| *byte == b':').filter(|_| !path.is_empty());
    // An empty entry means the working directory, as in every shell.
    directories
        .map(|dir| if dir.is_empty() { &b"."[..] } else { dir })
        .map(|dir| to_c([dir, b"/", program].concat()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pyro_wire::exec::Word;
    use pyro_wire::{ExecRequest, FaultKind, TerminalSize};

    use super::Command;

    fn request(argv: &[&str]) -> ExecRequest {
        ExecRequest {
            argv: argv.iter().map(|word| Word::from(*word)).collect(),
            env: BTreeMap::new(),
            cwd: "/".into(),
            stdin: false,
            terminal: None,
            timeout_ms: None,
        }
    }

    #[track_caller]
    fn check_candidates(path: Option<&str>, program: &str, expected: &[&str]) {
        let mut request = request(&[program]);
        if let Some(path) = path {
            request.env.insert("PATH".to_owned(), path.into());
        }
        let command = Command::read(&request).expect("valid");
        let found: Vec<_> = command.candidates.iter().map(|path| path.to_str().expect("text")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn programs_are_looked_up_in_the_commands_own_path() {
        check_candidates(Some("/a:/b"), "x", &["/a/x", "/b/x"]);
        check_candidates(Some("/a::rel"), "x", &["/a/x", "./x", "rel/x"]);
        check_candidates(Some(""), "x", &[]);
        check_candidates(Some("/a"), "./x", &["./x"]);
        check_candidates(Some("/a"), "/b/x", &["/b/x"]);
        check_candidates(None, "/b/x", &["/b/x"]);
    }

    #[test]
    fn the_environment_is_small_and_can_be_overridden() {
        let mut request = request(&["x"]);
        request.env.insert("HOME".to_owned(), "/h".into());
        request.env.insert("RAW".to_owned(), Word::from(b"\xff".to_vec()));
        let env = |request: &ExecRequest| Command::read(request).expect("valid").env;
        let expected = [
            &b"HOME=/h"[..],
            b"LANG=C.UTF-8",
            b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            b"RAW=\xff",
        ];
        assert_eq!(env(&request).iter().map(|variable| variable.to_bytes()).collect::<Vec<_>>(), expected);
        request.terminal = Some(TerminalSize { rows: 1, cols: 1 });
        assert!(env(&request).iter().any(|variable| variable.to_bytes() == b"TERM=xterm-256color"));
    }

    #[track_caller]
    fn check_refused(spoil: impl FnOnce(&mut ExecRequest), expected: FaultKind) {
        let mut request = request(&["x"]);
        spoil(&mut request);
        assert_eq!(Command::read(&request).expect_err("refused").kind, expected);
    }

    #[test]
    fn what_the_kernel_could_not_take_is_refused() {
        check_refused(|request| request.argv.clear(), FaultKind::InvalidArgument);
        check_refused(|request| request.argv = vec!["".into()], FaultKind::ProgramNotFound);
        check_refused(|request| request.argv.push("a\0b".into()), FaultKind::InvalidArgument);
        check_refused(|request| request.cwd = "relative".into(), FaultKind::BadWorkingDirectory);
        check_refused(|request| request.cwd = "/a\0".into(), FaultKind::InvalidArgument);
        check_refused(|request| drop(request.env.insert("A=B".to_owned(), "x".into())), FaultKind::InvalidArgument);
        check_refused(|request| drop(request.env.insert("A".to_owned(), "x\0".into())), FaultKind::InvalidArgument);
        check_refused(|request| request.terminal = Some(TerminalSize { rows: 0, cols: 9 }), FaultKind::InvalidArgument);
    }
}
