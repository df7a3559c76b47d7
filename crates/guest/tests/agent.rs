//! The real agent, driven over a socket as a host drives it over a port. What needs a machine (mounts, cgroups, the clock, power) is
//! proven by the tests on real machines.

mod connections;
mod host;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyro_wire::credit::WINDOW_BYTES;
use pyro_wire::exec::{EXECS_MAX, Word};
use pyro_wire::files::{List, ListLine};
use pyro_wire::lifecycle::SetUp;
use pyro_wire::message::{Answer, Request};
use pyro_wire::version::{PROTOCOL_NEWEST, ProtocolRange};
use pyro_wire::{
    ExecId, ExecRequest, Exit, Fault, FaultKind, Frame, GuestMessage, HostMessage, Program, Stream, TerminalSize, Tool,
};

use crate::host::{Host, on_terminal, prepare, set_up, shell, words};

#[track_caller]
fn check_run(request: ExecRequest, stdout: &[u8], stderr: &[u8], exit: Exit) {
    let mut host = Host::ready();
    let seen = host.run(request);
    assert_eq!((seen.stdout.as_slice(), seen.stderr.as_slice(), seen.exit), (stdout, stderr, Some(exit)));
    assert!(seen.pid.is_some_and(|pid| pid > 1));
    assert_eq!(seen.ended.len(), 2, "both streams end");
}

#[test]
fn streams_stay_apart_and_the_code_comes_back() {
    check_run(shell("echo out; echo err >&2; exit 7"), b"out\n", b"err\n", Exit::Code(7));
}

#[test]
fn bytes_arrive_as_they_are() {
    check_run(shell(r#"printf "\377\0x""#), b"\xff\0x", b"", Exit::Code(0));
    let odd = Word::from(b"\xff\xfe".to_vec());
    let program = Program::Argv(vec!["printf".into(), "%s".into(), odd]);
    check_run(ExecRequest { program, ..words(&[]) }, b"\xff\xfe", b"", Exit::Code(0));
}

#[test]
fn a_signal_is_told_from_a_code() {
    check_run(shell("kill -SEGV $$"), b"", b"", Exit::Signal(11));
}

#[test]
fn commands_start_clean() {
    let mut host = Host::ready();
    let status = host.run(shell("cat /proc/self/status")).stdout.clone();
    let mask = |name: &str| {
        let text = String::from_utf8_lossy(&status);
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a mask");
        u64::from_str_radix(line.trim(), 16).expect("hexadecimal")
    };
    assert_eq!(mask("SigBlk:"), 0);
    // The C library keeps signals 32 and 33 to itself, so what the test's own parent did to them stays.
    assert_eq!(mask("SigIgn:") & !(3 << 31), 0);
    // Nothing of the agent's is open in it: what is was open in this process, and so in the agent, before.
    let files = host.run(words(&["ls", "/proc/self/fd"])).stdout.clone();
    let of_agent =
        |number: &&str| !["0", "1", "2", "3"].contains(number) && !PathBuf::from("/proc/self/fd").join(number).exists();
    let files = String::from_utf8(files).expect("text");
    assert_eq!(files.lines().filter(of_agent).collect::<Vec<_>>(), Vec::<&str>::new());
    let seen =
        host.run(shell("read -r pid name state parent group session rest </proc/self/stat; echo $group $session"));
    let pid = seen.pid.expect("started");
    assert_eq!(String::from_utf8_lossy(&seen.stdout), format!("{pid} {pid}\n"));
}

#[test]
fn the_environment_and_directory_are_the_requests() {
    let mut request = words(&["sh", "-c", "pwd; echo $HOME $LANG $A; command -v env >/dev/null && env | wc -l"]);
    request.cwd = "/usr".into();
    request.env.insert("A".to_owned(), "b c".into());
    // PATH, HOME, LANG and A; the shell itself adds PWD.
    check_run(request, b"/usr\n/root C.UTF-8 b c\n5\n", b"", Exit::Code(0));
}

#[track_caller]
fn check_fault(request: ExecRequest, kind: FaultKind, names: &str) {
    let mut host = Host::ready();
    let fault = host.run(request).fault.clone().expect("refused");
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.message.contains(names), "{fault}");
    assert_eq!(host.run(words(&["true"])).exit, Some(Exit::Code(0)), "and the agent goes on");
}

#[test]
fn what_cannot_be_started_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/nowhere/interpreter\n").expect("written");
    let script_path = script.to_str().expect("text");
    check_fault(words(&["no-such-program"]), FaultKind::ProgramNotFound, "no-such-program");
    check_fault(words(&["/no/such/program"]), FaultKind::ProgramNotFound, "/no/such/program");
    check_fault(words(&[""]), FaultKind::ProgramNotFound, "empty");
    check_fault(words(&["/etc/passwd"]), FaultKind::ProgramNotExecutable, "/etc/passwd");
    check_fault(words(&["/usr"]), FaultKind::ProgramNotExecutable, "/usr");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("executable");
    check_fault(words(&[script_path]), FaultKind::ProgramNotExecutable, "interpreter");
    std::fs::write(&script, "echo no first line\n").expect("written");
    check_fault(words(&[script_path]), FaultKind::ProgramNotExecutable, script_path);
    check_fault(ExecRequest { cwd: "/no/such".into(), ..words(&["true"]) }, FaultKind::BadWorkingDirectory, "/no/such");
    check_fault(
        ExecRequest { cwd: "/etc/passwd".into(), ..words(&["true"]) },
        FaultKind::BadWorkingDirectory,
        "passwd",
    );
    check_fault(words(&["true", &"x".repeat(1 << 20)]), FaultKind::InvalidArgument, "too long");
    check_fault(words(&[]), FaultKind::InvalidArgument, "no words");
}

#[test]
fn a_tool_runs_as_a_command() {
    let mut host = Host::ready();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("one"), "1").expect("written");
    let list = |path: &str| {
        let program = Program::Tool(Box::new(Tool::List(List { path: path.into(), recursive: false, entries_max: 9 })));
        ExecRequest { program, ..words(&[]) }
    };
    let seen = host.run(list(folder.path().to_str().expect("text")));
    assert_eq!((seen.exit, String::from_utf8_lossy(&seen.stderr).as_ref()), (Some(Exit::Code(0)), ""));
    let lines: Vec<ListLine> = serde_json::Deserializer::from_slice(&seen.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("lines of JSON");
    assert!(
        matches!(lines.as_slice(), [ListLine::Entry(entry), ListLine::End { truncated: false }] if entry.size_bytes == 1)
    );
    let seen = host.run(list("/no/such/path"));
    assert_eq!((seen.exit, seen.stdout.as_slice()), (Some(Exit::Code(1)), &b""[..]));
    let fault: Fault = serde_json::from_slice(&seen.stderr).expect("a fault");
    assert_eq!(fault.kind, FaultKind::NotFound);
    check_fault(ExecRequest { cwd: "/no/such".into(), ..list("/") }, FaultKind::BadWorkingDirectory, "/no/such");
}

#[test]
fn phases_are_kept() {
    let mut host = Host::bare();
    assert_eq!(host.hello("first", ProtocolRange::OURS), Some(PROTOCOL_NEWEST));
    let refused = |result: Result<Answer, pyro_wire::Fault>| result.expect_err("refused").kind;
    assert_eq!(host.run(words(&["true"])).fault.as_ref().map(|fault| fault.kind), Some(FaultKind::WrongPhase));
    assert_eq!(refused(host.request(Request::SetUp(set_up()))), FaultKind::WrongPhase);
    assert_eq!(host.request(Request::Prepare(prepare())), Ok(Answer::Done));
    assert_eq!(refused(host.request(Request::Prepare(prepare()))), FaultKind::WrongPhase);
    let odd = SetUp { machine_id: "X".repeat(32), ..set_up() };
    assert_eq!(refused(host.request(Request::SetUp(odd))), FaultKind::InvalidArgument);
    // What was refused for its words alone may be asked again, also in another session.
    host.say(&HostMessage::Detach);
    assert_eq!(host.hello("second", ProtocolRange::OURS), Some(PROTOCOL_NEWEST));
    assert!(matches!(host.request(Request::SetUp(set_up())), Ok(Answer::Ready(_))));
    assert_eq!(host.request(Request::Sync), Ok(Answer::Done));
    // A machine without a disk of its own has none to keep still.
    assert_eq!(refused(host.request(Request::Freeze)), FaultKind::WrongPhase);
    assert_eq!(refused(host.request(Request::Thaw)), FaultKind::WrongPhase);
}

#[test]
fn shutting_down_ends_commands_and_then_the_agent() {
    let mut host = Host::ready();
    let exec = host.start(shell("sleep 600"));
    host.until(exec, |seen| seen.pid.is_some());
    assert_eq!(host.request(Request::ShutDown), Ok(Answer::Done));
    assert_eq!(host.commands[&exec].exit, Some(Exit::Killed));
    assert!(host.hear().is_none());
    assert!(host.wait().success());
}

#[test]
fn input_reaches_the_command_and_ends() {
    let mut host = Host::ready();
    let exec = host.start_with_input(words(&["cat"]), b"some\0bytes");
    let seen = host.finish(exec);
    assert_eq!((seen.stdout.as_slice(), seen.exit), (&b"some\0bytes"[..], Some(Exit::Code(0))));
    let seen = host.run(words(&["cat"]));
    assert_eq!((seen.stdout.len(), seen.exit), (0, Some(Exit::Code(0))), "without input it reads nothing");
}

#[test]
fn large_transfers_are_exact_both_ways() {
    let bytes: Vec<u8> = (0..40_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut host = Host::ready();
    let exec = host.start_with_input(words(&["cat"]), &bytes);
    let seen = host.finish(exec);
    assert_eq!(seen.exit, Some(Exit::Code(0)));
    assert!(seen.stdout == bytes);
}

#[test]
fn a_command_that_reads_no_more_does_not_stall_its_feeder() {
    let bytes = vec![b'y'; 8 * WINDOW_BYTES as usize];
    let mut host = Host::ready();
    let exec = host.start_with_input(shell("head -c 3; exec <&-; sleep 0.3"), &bytes);
    let seen = host.finish(exec);
    assert_eq!((seen.stdout.as_slice(), seen.exit), (&b"yyy"[..], Some(Exit::Code(0))));
    // Late input for a command that is gone is nobody's.
    host.input(exec, b"late");
    assert_eq!(host.run(words(&["true"])).exit, Some(Exit::Code(0)));
}

#[test]
fn a_stalled_consumer_stalls_only_its_own_stream() {
    let mut host = Host::ready();
    let stalled = host.start(shell("head -c 2000000 /dev/zero; echo done >&2"));
    host.commands.get_mut(&stalled).expect("started").stalled = true;
    let window = WINDOW_BYTES as usize;
    host.until(stalled, |seen| seen.stdout.len() == window);
    assert_eq!(host.run(shell("head -c 3000000 /dev/zero")).stdout.len(), 3_000_000);
    assert_eq!(host.commands[&stalled].stdout.len(), window, "not a byte without credit");
    host.resume(stalled);
    let seen = host.finish(stalled);
    assert_eq!((seen.stdout.len(), seen.stderr.as_slice()), (2_000_000, &b"done\n"[..]));
}

#[test]
fn killing_does_not_wait_for_credit() {
    let mut host = Host::ready();
    let exec = host.start(shell("cat /dev/zero"));
    host.commands.get_mut(&exec).expect("started").stalled = true;
    host.until(exec, |seen| seen.stdout.len() == WINDOW_BYTES as usize);
    host.say(&HostMessage::Kill { exec });
    assert_eq!(host.finish(exec).exit, Some(Exit::Killed));
}

#[test]
fn what_was_printed_last_comes_before_the_end() {
    let mut host = Host::ready();
    for _ in 0..20 {
        let seen = host.run(shell("head -c 60000 /dev/zero; echo last >&2"));
        assert_eq!((seen.stdout.len(), seen.stderr.as_slice()), (60_000, &b"last\n"[..]));
    }
}

#[test]
fn what_a_command_leaves_running_goes_on_unheard() {
    let folder = tempfile::tempdir().expect("a folder");
    let proof = folder.path().join("proof");
    let mut host = Host::ready();
    // It prints far more than a pipe holds after its command ended, and must neither block nor die of it.
    let line = format!("(sleep 0.2; head -c 1000000 /dev/zero; echo alive > {}) & echo started", proof.display());
    let begun = Instant::now();
    let seen = host.run(shell(&line));
    assert_eq!((seen.stdout.as_slice(), seen.exit), (&b"started\n"[..], Some(Exit::Code(0))));
    assert!(seen.duration_ms < 10_000 && begun.elapsed() < Duration::from_secs(10));
    let is_alive = || std::fs::read_to_string(&proof).is_ok_and(|text| text == "alive\n");
    while !is_alive() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the background process blocked or died");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(host.run(words(&["true"])).stdout, b"");
}

#[test]
fn a_timeout_keeps_what_was_printed_and_kills_the_group() {
    let mut host = Host::ready();
    let begun = Instant::now();
    let request = ExecRequest { timeout_ms: Some(300), ..shell("echo before; sleep 600 & echo $!; sleep 600") };
    let seen = host.run(request);
    assert_eq!(seen.exit, Some(Exit::TimedOut));
    assert!(seen.duration_ms >= 300 && begun.elapsed() < Duration::from_secs(30));
    let text = String::from_utf8(seen.stdout.clone()).expect("text");
    let (before, background) = text.trim_end().split_once('\n').expect("two lines");
    assert_eq!(before, "before");
    await_death(background);
    let request = ExecRequest { timeout_ms: Some(60_000), ..words(&["true"]) };
    assert_eq!(host.run(request).exit, Some(Exit::Code(0)));
}

#[track_caller]
fn await_death(pid: &str) {
    let begun = Instant::now();
    // A process whose parent was killed may stay a zombie for as long as its new parent likes.
    let runs = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z ") && stat.contains("sleep"))
    };
    while runs() {
        assert!(begun.elapsed() < Duration::from_secs(30), "process {pid} goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn signals_reach_the_process_group() {
    let mut host = Host::ready();
    let exec = host.start(shell("trap 'echo got it; exit 3' USR1; echo set; while :; do sleep 0.05; done"));
    host.until(exec, |seen| seen.stdout == b"set\n");
    host.say(&HostMessage::Signal { exec, signal: 10 });
    let seen = host.finish(exec);
    assert!(seen.stdout.ends_with(b"got it\n"));
    assert_eq!(seen.exit, Some(Exit::Code(3)));
    // For who is gone, or by a number that is no signal, nothing happens.
    host.say(&HostMessage::Signal { exec, signal: 9 });
    host.say(&HostMessage::Kill { exec: ExecId(9999) });
    let exec = host.start(words(&["sleep", "0.2"]));
    host.say(&HostMessage::Signal { exec, signal: 200 });
    assert_eq!(host.finish(exec).exit, Some(Exit::Code(0)));
}

#[test]
fn who_is_asked_to_end_may_do_so_in_its_own_way() {
    let mut host = Host::ready();
    let obeys = host.start(shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"));
    host.until(obeys, |seen| seen.stdout == b"ready\n");
    host.say(&HostMessage::Terminate { exec: obeys, grace_ms: 60_000 });
    let seen = host.finish(obeys);
    assert_eq!((seen.stdout.as_slice(), seen.exit), (&b"ready\nbye\n"[..], Some(Exit::Code(3))));

    let stubborn = host.start(shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"));
    host.until(stubborn, |seen| !seen.stdout.is_empty());
    host.say(&HostMessage::Terminate { exec: stubborn, grace_ms: 100 });
    assert_eq!(host.finish(stubborn).exit, Some(Exit::Killed));
}

#[test]
fn a_terminal_is_one() {
    let mut host = Host::ready();
    let exec = host.start(on_terminal("tty >/dev/null && echo terminal; stty size; echo $TERM; read line; echo \"<$line>\"; stty size; ps -o tpgid= -p $$ >/dev/null; exit 4"));
    host.until(exec, |seen| seen.stdout.windows(5).any(|bytes| bytes == b"xterm"));
    host.say(&HostMessage::Resize { exec, size: TerminalSize { rows: 41, cols: 83 } });
    host.input(exec, b"typed\r");
    let seen = host.finish(exec);
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout),
        "terminal\r\n30 100\r\nxterm-256color\r\ntyped\r\n<typed>\r\n41 83\r\n"
    );
    assert_eq!((seen.exit, seen.stderr.len()), (Some(Exit::Code(4)), 0));
    assert_eq!(seen.ended, [Stream::Stdout].into());
}

#[test]
fn a_terminal_passes_keys_and_its_end() {
    let mut host = Host::ready();
    let exec = host.start(on_terminal("trap 'echo interrupted' INT; cat; echo over"));
    host.input(exec, b"echoed\n");
    host.until(exec, |seen| seen.stdout == b"echoed\r\nechoed\r\n");
    host.input(exec, b"\x03");
    assert!(host.finish(exec).stdout.ends_with(b"interrupted\r\nover\r\n"));
    let exec = host.start(on_terminal("cat; echo over"));
    host.input(exec, b"line\n");
    host.input(exec, b"");
    let seen = host.finish(exec);
    assert!(seen.stdout.ends_with(b"line\r\nover\r\n"), "{:?}", String::from_utf8_lossy(&seen.stdout));
}

#[test]
fn a_terminal_may_be_closed_and_opened_again() {
    let mut host = Host::ready();
    let line = "echo before; (exec </dev/null >/dev/null 2>&1; sleep 0.3; echo after >/dev/tty) & \
                exec </dev/null >/dev/null 2>&1; wait";
    let seen = host.run(on_terminal(line));
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "before\r\nafter\r\n");
}

#[test]
fn much_output_of_a_terminal_is_whole() {
    let mut host = Host::ready();
    let exec = host.start(on_terminal("stty -opost; seq 1 30000"));
    let expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let seen = host.finish(exec);
    assert_eq!(seen.exit, Some(Exit::Code(0)));
    assert!(seen.stdout == expected.as_bytes(), "{} of {} bytes", seen.stdout.len(), expected.len());
}

#[test]
fn many_commands_run_at_once_up_to_the_limit() {
    let mut host = Host::ready();
    let execs: Vec<_> = (0..EXECS_MAX).map(|number| host.start(shell(&format!("read line; echo {number}")))).collect();
    for (number, exec) in execs.into_iter().enumerate() {
        assert_eq!(host.finish(exec).stdout, format!("{number}\n").as_bytes());
    }
    let waiting = || ExecRequest { stdin: true, ..words(&["cat"]) };
    let execs: Vec<_> = (0..EXECS_MAX).map(|_| host.start(waiting())).collect();
    let fault = host.run(words(&["true"])).fault.clone().expect("one too many");
    assert_eq!(fault.kind, FaultKind::LimitReached);
    for exec in execs {
        host.input(exec, b"");
        assert_eq!(host.finish(exec).exit, Some(Exit::Code(0)));
    }
    assert_eq!(host.run(words(&["true"])).exit, Some(Exit::Code(0)));
}

#[test]
fn sessions_do_not_inherit_commands() {
    for with_detach in [false, true] {
        let mut host = Host::ready();
        let exec = host.start(shell("echo $$; exec sleep 600"));
        host.until(exec, |seen| seen.stdout.ends_with(b"\n"));
        let pid = String::from_utf8_lossy(&host.commands[&exec].stdout).trim().to_owned();
        if with_detach {
            host.say(&HostMessage::Detach);
        }
        assert_eq!(host.hello("second", ProtocolRange::OURS), Some(PROTOCOL_NEWEST));
        await_death(&pid);
        assert_eq!(host.run(words(&["true"])).exit, Some(Exit::Code(0)), "the machine is still set up");
    }
}

#[test]
fn without_a_common_version_there_is_no_session() {
    let mut host = Host::bare();
    assert_eq!(host.hello("future", ProtocolRange { oldest: 900, newest: 901 }), None);
    // What such a host says next means nothing; another one is welcome.
    host.say(&HostMessage::Exec { exec: ExecId(1), request: words(&["true"]) });
    host.say(&HostMessage::Detach);
    assert_eq!(host.hello("present", ProtocolRange { oldest: 1, newest: 901 }), Some(PROTOCOL_NEWEST));
    assert_eq!(host.request(Request::Prepare(prepare())), Ok(Answer::Done));
}

#[track_caller]
fn check_hostile(bytes: &[u8]) {
    let mut host = Host::ready();
    let exec = host.start(shell("echo $$; exec sleep 600"));
    host.until(exec, |seen| seen.stdout.ends_with(b"\n"));
    let pid = String::from_utf8_lossy(&host.commands[&exec].stdout).trim().to_owned();
    host.send(bytes);
    while host.hear().is_some() {}
    await_death(&pid);
    assert!(host.wait().success(), "the agent ends in order");
}

#[test]
fn a_host_that_breaks_the_protocol_loses_its_session() {
    check_hostile(b"not a frame at all");
    check_hostile(&[1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    check_hostile(&[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'{', b'}', b'}']);
    let mut unknown = Vec::new();
    Frame::Control(br#"{"type":"levitate"}"#.to_vec()).encode(&mut unknown).expect("short");
    check_hostile(&unknown);
    // Credit that was never owed.
    let mut credit = Vec::new();
    let message = HostMessage::Credit { exec: ExecId(3), stream: Stream::Stdout, bytes: u32::MAX };
    message.encode(&mut credit).expect("short");
    check_hostile(&credit);
}

#[test]
fn a_flood_past_the_credit_ends_the_session() {
    let mut host = Host::ready();
    let exec = host.start(ExecRequest { stdin: true, ..words(&["sleep", "600"]) });
    host.until(exec, |seen| seen.pid.is_some());
    for _ in 0..=WINDOW_BYTES / 65_536 {
        host.input(exec, &[0; 65_536]);
    }
    assert!(host.hear().is_none());
    assert!(host.wait().success());
}

#[test]
fn numbers_are_used_once() {
    let mut host = Host::ready();
    let exec = host.start(ExecRequest { stdin: true, ..words(&["cat"]) });
    host.until(exec, |seen| seen.pid.is_some());
    host.say(&HostMessage::Exec { exec, request: words(&["true"]) });
    host.until(exec, |seen| seen.fault.is_some());
    host.input(exec, b"");
    host.until(exec, |seen| seen.exit.is_some());
}

#[test]
fn nothing_is_said_before_hello() {
    let mut host = Host::bare();
    host.say(&HostMessage::Exec { exec: ExecId(1), request: words(&["true"]) });
    host.input(ExecId(1), b"bytes");
    host.say(&HostMessage::Hello { protocol: ProtocolRange::OURS, session: "first".to_owned() });
    let Some(Frame::Control(payload)) = host.hear() else { panic!("a message") };
    assert!(matches!(GuestMessage::decode(&payload), Ok(GuestMessage::Welcome { .. })));
}
