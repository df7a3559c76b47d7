//! Tools: work that this program does as a command of its own, beside the agent, so that it can be limited, killed and fed
//! like any other command. [`pyro_wire::tool`] says what each is asked and answers.
//!
//! A tool is plain blocking code over a [`Ground`]. It answers on standard output and fails with a [`Fault`], which is
//! written to standard error; its arguments come from the host, but the files it works on are the guest's.

mod answer;
mod changes;
mod export;
mod files;
mod ground;
mod input;
mod patch;
mod ready;
mod search;
mod stage;
mod sync;

use std::ffi::OsString;
use std::io::Write;
use std::panic::PanicHookInfo;

use pyro_wire::{Fault, FaultKind, Tool};

pub(crate) use answer::Answer;
pub(crate) use ground::{Ground, io_fault, shown};
pub(crate) use stage::sweep_below;

/// The word with which the agent's program is a tool: `--tool JSON`, then where its ground is.
pub(crate) const TOOL_FLAG: &str = "--tool";

/// Followed by the number of an inherited descriptor, of the directory at which the workspace disk is mounted.
pub(crate) const DISK_FLAG: &str = "--disk-fd";

/// Followed by a directory that holds a ground for trying tools without a machine.
const GROUND_FLAG: &str = "--ground";

/// Does what the words after [`TOOL_FLAG`] say, answering on standard output; whether it went well. If not, standard error says
/// why.
pub(crate) fn run(words: &[OsString]) -> bool {
    let result = read_words(words).and_then(|(tool, ground)| {
        stage::sweep(&ground);
        let mut answer = Answer::new(std::io::stdout().lock());
        dispatch(tool, &ground, &mut answer)?;
        answer.finish()
    });
    result.inspect_err(tell).is_ok()
}

/// Says that a tool broke: the words for [`std::panic::set_hook`] in a process that is one.
pub(crate) fn tell_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    let reason = info.payload_as_str().unwrap_or("no reason was given");
    tell(&Fault::new(FaultKind::Defect, format!("the guest's tool broke{place}: {reason}")));
}

/// What each tool does.
fn dispatch(tool: Tool, ground: &Ground, answer: &mut Answer<impl Write>) -> Result<(), Fault> {
    match tool {
        Tool::List(list) => files::list(&list, ground, answer),
        Tool::Read(read) => files::read(&read, ground, answer),
        Tool::Write(write) => files::write(&write, ground, std::io::stdin().lock(), answer),
        Tool::Edit(edit) => files::edit(&edit, ground, std::io::stdin().lock(), answer),
        Tool::Search(search) => search::search(&search, ground, answer),
        Tool::ApplyPatch(request) => patch::apply(&request, ground, std::io::stdin().lock(), answer),
        Tool::Export(request) => export::export(&request, ground, answer),
        Tool::Changes(request) => changes::changes(&request, ground, answer),
        Tool::Inventory(inventory) => sync::inventory(&inventory, ground, std::io::stdin().lock(), answer),
        Tool::Digests(digests) => sync::digests(&digests, ground, std::io::stdin().lock(), answer),
        Tool::AwaitReady(request) => ready::await_ready(&request, ground, answer),
        Tool::Receive(receive) => sync::receive(&receive, ground, std::io::stdin().lock(), answer),
    }
}

fn read_words(words: &[OsString]) -> Result<(Tool, Ground), Fault> {
    let invalid = |message: String| Fault::new(FaultKind::InvalidArgument, message);
    let [json, rest @ ..] = words else { return Err(invalid("no tool is named".to_owned())) };
    let tool = serde_json::from_slice(json.as_encoded_bytes())
        .map_err(|error| invalid(format!("these are no words of a tool: {error}")))?;
    let ground = match rest {
        [] => Ground::without_disk(),
        [flag, number] if flag == DISK_FLAG => {
            let number = number.to_str().and_then(|number| number.parse().ok());
            Ground::of_machine(number.ok_or_else(|| invalid(format!("{DISK_FLAG} is followed by a number")))?)
        }
        [flag, dir] if flag == GROUND_FLAG => Ground::in_dir(dir.as_ref())?,
        _ => return Err(invalid("the words after the tool name no ground".to_owned())),
    };
    Ok((tool, ground))
}

fn tell(fault: &Fault) {
    let json = serde_json::to_vec(fault).expect("a fault has string keys and no failing serialiser");
    // Nobody is left to be told when this fails.
    drop(std::io::stderr().write_all(&json));
}
