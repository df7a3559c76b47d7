//! What a command request means in the kernel's terms: C strings, an environment, the paths to try.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::RawFd;

use pyro_wire::exec::Word;
use pyro_wire::tool::TOOL_BYTES_MAX;
use pyro_wire::{ExecRequest, Fault, FaultKind, Program, Tool};

use crate::tool::{self, shown};

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command, ready to be handed to the kernel.
#[derive(Debug)]
pub(crate) struct Command {
    /// Arguments, the first is the program as it was named.
    pub(crate) argv: Vec<CString>,
    /// `NAME=value`.
    pub(crate) env: Vec<CString>,
    /// Working directory.
    pub(crate) cwd: CString,
    /// What is executed.
    pub(crate) image: Image,
}

/// Where the program of a command is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// At one of these paths; they are tried in order.
    At(Vec<CString>),
    /// It is the agent's own, as a tool.
    Agent,
}

impl Command {
    /// Reads a request.
    ///
    /// `disk` is the number of the descriptor by which a tool finds the workspace disk, if there is one.
    ///
    /// # Errors
    /// A word the kernel could not take.
    pub(crate) fn read(request: &ExecRequest, disk: Option<RawFd>) -> Result<Self, Fault> {
        if !request.cwd.as_bytes().starts_with(b"/") {
            let shown = shown(request.cwd.as_bytes());
            return Err(Fault::new(FaultKind::BadWorkingDirectory, format!("{shown} is not an absolute path")));
        }
        if request.terminal.is_some_and(|size| size.rows == 0 || size.cols == 0) {
            return Err(invalid("a terminal has at least one row and one column"));
        }
        let variables = environment(request)?;
        let path = variables.get("PATH").map(Vec::as_slice).unwrap_or_default();
        let (argv, image) = match &request.program {
            Program::Argv(words) => program_argv(words, path)?,
            Program::Tool(_) if request.terminal.is_some() => return Err(invalid("a tool has no terminal")),
            Program::Tool(tool) => (tool_argv(tool, disk)?, Image::Agent),
        };
        let env = variables.iter().map(|(name, value)| variable(name, value)).collect::<Result<_, _>>()?;
        Ok(Self { image, env, cwd: c_string("the working directory", &request.cwd)?, argv })
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

fn program_argv(words: &[Word], path: &[u8]) -> Result<(Vec<CString>, Image), Fault> {
    let argv = words.iter().map(|word| c_string("an argument", word)).collect::<Result<Vec<_>, _>>()?;
    let Some(program) = argv.first() else { return Err(invalid("the command has no words")) };
    if program.is_empty() {
        return Err(Fault::new(FaultKind::ProgramNotFound, "the program's name is empty"));
    }
    let image = Image::At(candidates(program.as_bytes(), path)?);
    Ok((argv, image))
}

/// The words by which the agent's program does what a tool is asked.
fn tool_argv(asked: &Tool, disk: Option<RawFd>) -> Result<Vec<CString>, Fault> {
    let json = serde_json::to_vec(asked).map_err(|_| invalid("the tool's arguments are no JSON"))?;
    if json.len() > TOOL_BYTES_MAX {
        return Err(invalid(&format!("the arguments of the tool {} are over {TOOL_BYTES_MAX} bytes", asked.name())));
    }
    let disk = disk.map(|number| [tool::DISK_FLAG.to_owned(), number.to_string()]);
    let words = [b"pyro-guest".to_vec(), tool::TOOL_FLAG.into(), json].into_iter();
    let words = words.chain(disk.into_iter().flatten().map(String::into_bytes));
    words.map(|word| c_string("an argument", &Word::from(word))).collect()
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
    use pyro_wire::files::List;
    use pyro_wire::tool::TOOL_BYTES_MAX;
    use pyro_wire::{ExecRequest, FaultKind, Program, TerminalSize, Tool};

    use super::{Command, Image};

    fn request(argv: &[&str]) -> ExecRequest {
        ExecRequest {
            program: Program::Argv(argv.iter().map(|word| Word::from(*word)).collect()),
            env: BTreeMap::new(),
            cwd: "/".into(),
            stdin: false,
            terminal: None,
            timeout_ms: None,
            whole: false,
        }
    }

    #[track_caller]
    fn check_candidates(path: Option<&str>, program: &str, expected: &[&str]) {
        let mut request = request(&[program]);
        if let Some(path) = path {
            request.env.insert("PATH".to_owned(), path.into());
        }
        let command = Command::read(&request, None).expect("valid");
        let Image::At(candidates) = command.image else { panic!("a program of the guest") };
        let found: Vec<_> = candidates.iter().map(|path| path.to_str().expect("text")).collect();
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
        let env = |request: &ExecRequest| Command::read(request, None).expect("valid").env;
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
        assert_eq!(Command::read(&request, None).expect_err("refused").kind, expected);
    }

    #[test]
    fn what_the_kernel_could_not_take_is_refused() {
        check_refused(|request| request.program = Program::Argv(vec![]), FaultKind::InvalidArgument);
        check_refused(|request| request.program = Program::Argv(vec!["".into()]), FaultKind::ProgramNotFound);
        check_refused(
            |request| request.program = Program::Argv(vec!["x".into(), "a\0b".into()]),
            FaultKind::InvalidArgument,
        );
        check_refused(|request| request.cwd = "relative".into(), FaultKind::BadWorkingDirectory);
        check_refused(|request| request.cwd = "/a\0".into(), FaultKind::InvalidArgument);
        check_refused(|request| drop(request.env.insert("A=B".to_owned(), "x".into())), FaultKind::InvalidArgument);
        check_refused(|request| drop(request.env.insert("A".to_owned(), "x\0".into())), FaultKind::InvalidArgument);
        check_refused(|request| request.terminal = Some(TerminalSize { rows: 0, cols: 9 }), FaultKind::InvalidArgument);
    }

    fn tool(path: &str) -> Program {
        Program::Tool(Box::new(Tool::List(List { path: path.into(), recursive: false, entries_max: 1 })))
    }

    #[test]
    fn a_tool_is_the_agents_own_program() {
        let request = ExecRequest { program: tool("/a"), ..request(&[]) };
        let command = Command::read(&request, Some(7)).expect("valid");
        let words: Vec<_> = command.argv.iter().map(|word| word.to_str().expect("text")).collect();
        let json = r#"{"list":{"path":"/a","recursive":false,"entries_max":1}}"#;
        assert_eq!(
            (words.as_slice(), command.image),
            (&["pyro-guest", "--tool", json, "--disk-fd", "7"][..], Image::Agent)
        );
    }

    #[test]
    fn a_tool_is_short_and_has_no_terminal() {
        check_refused(|request| request.program = tool(&"x".repeat(TOOL_BYTES_MAX)), FaultKind::InvalidArgument);
        let size = TerminalSize { rows: 1, cols: 1 };
        check_refused(
            |request| (request.program, request.terminal) = (tool("/"), Some(size)),
            FaultKind::InvalidArgument,
        );
    }
}
