//! Secrets: a value reaches the command it was given to, and is found nowhere else; what crosses a workspace's border is
//! written down.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};
use vm_tests::mcp::ChatHost;
use vm_tests::{Home, Pyro, Workspace};

/// A value that was never anywhere.
fn random_value() -> String {
    let bytes = fs::read("/proc/sys/kernel/random/uuid").expect("the kernel makes random names");
    // Of a length that is no multiple of three, and with what URLs encode.
    format!("t/{}+k", String::from_utf8(bytes).expect("it is text").trim())
}

/// Another one, which may stand in the name of a host.
fn random_name() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel makes random names").trim().to_owned()
}

/// The forms in which it must not be found.
fn forms(value: &str) -> Vec<String> {
    let hex = |before: &str| value.bytes().map(|byte| format!("{before}{byte:02x}")).collect::<String>();
    let url: String =
        value
            .chars()
            .map(|one| {
                if one.is_ascii_alphanumeric() || one == '-' { one.to_string() } else { format!("%{:02X}", one as u32) }
            })
            .collect();
    let mut forms = vec![value.to_owned(), hex(""), hex("").to_uppercase(), hex("%"), url.to_lowercase(), url];
    forms.extend([STANDARD.encode(value), URL_SAFE.encode(value)]);
    // What is the same whatever stands before and after.
    for before in ["x", "xy"] {
        let encoded = STANDARD.encode(format!("{before}{value}zz"));
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
}

#[track_caller]
fn assert_absent(what: &str, bytes: &[u8], forms: &[String]) {
    for form in forms {
        let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
        assert!(!found, "{what} holds {form}");
    }
}

/// Looks through all files below a directory, or all but a workspace's disk, on which is what the guest wrote to it.
fn search(dir: &Path, forms: &[String], disks: bool, looked: &mut u64) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("it has a kind"));
        if kind.is_dir() {
            search(&path, forms, disks, looked);
        } else if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() < 256 << 20) {
            if !disks && path.extension().is_some_and(|extension| extension == "qcow2") {
                continue;
            }
            *looked += 1;
            assert_absent(&path.display().to_string(), path.to_string_lossy().as_bytes(), forms);
            assert_absent(&path.display().to_string(), &fs::read(&path).unwrap_or_default(), forms);
        }
    }
}

/// Arguments and variables of a process.
fn of_process(pid: &Value) -> [Vec<u8>; 2] {
    ["cmdline", "environ"].map(|name| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default())
}

/// Prints `$T` in all forms, in pieces, on both streams, and on the console.
const PRINT: &str = r#"
printf '%s\n' "$T" "$T" >&2; printf %s "$T" | base64; printf x%s "$T" | base64 -w0; echo; printf xy%s "$T" | base64 -w0; echo
printf %s "$T" | od -An -tx1 | tr -d ' \n'; echo
python3 -c 'import os, sys, time, urllib.parse as u
t = os.environ["T"]
print(u.quote(t, safe=""), u.quote(t), u.quote_plus(t).lower())
for c in t: sys.stdout.write(c); sys.stdout.flush(); time.sleep(0.002)
print(); os.write(2, t[:20].encode()); time.sleep(0.2); os.write(2, t[20:].encode() + b"\n")'
echo "$T" > /dev/console; echo done"#;

/// A script that is given the secret in `$T`.
fn given(workspace: &Workspace<'_>, script: &str) -> Pyro {
    workspace.verb("exec", &["--secret-env", "TOKEN=T", "--", "sh", "-c", script])
}

#[test]
fn a_secret_is_where_it_was_given_to_and_nowhere_else() {
    let home = Home::shared();
    // One that can be in a name of a host, too.
    let (value, named) = (random_value(), random_name());
    let forms = [forms(&value), forms(&named)].concat();
    let work = tempfile::tempdir().expect("a directory");
    let mut flags =
        vec!["--name".to_owned(), "s".to_owned(), "--allow-domain".to_owned(), "allowed.example".to_owned()];
    flags.extend(["--network-policy".to_owned(), "egress+published-ports".to_owned()]);
    for (name, value) in [("TOKEN", &value), ("NAMED", &named)] {
        let file = work.path().join(name);
        fs::write(&file, format!("{value}\n")).expect("it is our own directory");
        flags.extend(["--secret-file".to_owned(), format!("{name}={}", file.display())]);
    }
    let workspace = Workspace::create(&home, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    for name in ["TOKEN", "NAMED"] {
        fs::remove_file(work.path().join(name)).expect("it is there");
    }

    // A command that was not given it has nothing, and one that was has it whole.
    assert_eq!(workspace.sh("echo ${TOKEN-none}"), "none\n");
    let digest = format!("{}\n", &sha256(&value)[..16]);
    given(&workspace, "printf %s \"$T\" | sha256sum | cut -c1-16").finish().assert_stdout(digest);

    let mut shown = printed(&workspace, &value);
    shown.extend(carried(&workspace));
    let mut staying = given(&workspace, "echo \"$T\"; sleep 300").start();
    staying.wait_for_stdout("[secret TOKEN]\n");
    shown.push(staying.stdout_so_far());

    // On the host, while all of it runs: nothing wrote it to a disk so far.
    let mut looked = 0;
    search(home.path(), &forms, true, &mut looked);
    search(&home.cache().join("templates"), &forms, true, &mut looked);
    assert!(looked > 10, "only {looked} files were looked at");
    let status = workspace.status();
    let known = |name: &str| json!({"name": name, "known": true});
    assert_eq!(status["secrets"], json!([known("NAMED"), known("TOKEN")]));
    for process in ["supervisor_pid", "machine_pid"] {
        let [arguments, variables] = of_process(&status[process]);
        assert!(!arguments.is_empty(), "{process} lives");
        assert_absent(process, &[arguments, variables].concat(), &forms);
    }

    shown.extend(told_of_files(&workspace, &value, work.path()));
    shown.iter().for_each(|bytes| assert_absent("what is shown", bytes, &forms));
    search(home.path(), &forms, false, &mut looked);
    search(work.path(), &forms, false, &mut looked);
    told_again(&workspace, &value, work.path());
    workspace.delete();
    home.assert_nothing_left();
}

/// What a command and a shell print of it.
fn printed(workspace: &Workspace<'_>, value: &str) -> Vec<Vec<u8>> {
    let mut printing = given(workspace, PRINT).start();
    printing.wait_for_stdout("done\n");
    let printed = printing.wait();
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout_text().matches("[secret TOKEN]").count() >= 6, "{}", printed.stdout_text());
    assert!(printed.stderr_text().matches("[secret TOKEN]").count() >= 3, "{}", printed.stderr_text());

    let opened = workspace.verb("shell open", &["--secret-env", "TOKEN=T", "--id-only"]).finish();
    let shell = opened.stdout_text().trim().to_owned();
    let typed = format!("echo \"<$T>\"; base64 <<< \"$T\"; echo {value}");
    workspace.verb("shell write", &[&shell, "--input", &typed]).finish().assert_code(0);
    let waits = ["--wait-for", r"<\[secret TOKEN\]>\s+\[secret TOKEN\]", "--plain"];
    let in_shell = workspace.verb("shell read", &[&shell]).args(&waits).finish();
    in_shell.assert_code(0).assert_stdout_has("echo [secret TOKEN]");
    vec![printed.stdout, printed.stderr, in_shell.stdout]
}

/// What is told of a service that prints it, of its port, and of traffic that has it in a name.
fn carried(workspace: &Workspace<'_>) -> Vec<Vec<u8>> {
    let service = "echo \"$T\"; printf %s \"$T\" | base64; exec python3 -m http.server 8000 --bind 127.0.0.1";
    let flags = ["talker", "--secret-env", "TOKEN=T", "--publish", "8000", "--ready-tcp", "127.0.0.1:8000"];
    let started = workspace.verb("service start", &flags).args(&["--", "sh", "-c", service]).finish();
    started.assert_code(0);
    let logs = workspace.verb("service logs", &["talker"]).finish();
    logs.assert_code(0).assert_stdout_has("[secret TOKEN]\n[secret TOKEN]");
    let asks = ["--secret-env", "NAMED=N", "--", "sh", "-c", "curl -sS http://$N.elsewhere.example/"];
    let asking = workspace.verb("exec", &asks).finish();
    asking.assert_code(6).assert_stderr_has("[secret NAMED].elsewhere.example");
    let mut told = vec![started.stdout, logs.stdout, asking.stderr];
    for (name, flags) in [
        ("status", &[][..]),
        ("status", &["--json"]),
        ("crossings", &[]),
        ("service list", &["--json"]),
        ("port list", &[]),
    ] {
        let outcome = workspace.verb(name, flags).finish();
        outcome.assert_code(0);
        told.extend([outcome.stdout, outcome.stderr]);
    }
    let all = String::from_utf8_lossy(&told.concat()).into_owned();
    for words in ["dns [secret NAMED].elsewhere.example: refused", "8000 of talker: open", "TOKEN as $T for a talker"] {
        assert!(all.contains(words), "no {words:?} in {all}");
    }
    told
}

/// What is told of files that hold it: logs, files, names, changes, failures; what holds it is named, and not exported.
fn told_of_files(workspace: &Workspace<'_>, value: &str, work: &Path) -> Vec<Vec<u8>> {
    let files = "echo \"$T\" > held; tar cf packed held; echo clean > clean; ln -s \"$T\" link";
    given(workspace, files).finish().assert_code(0);
    let verb = |verb: &str, flags: &[&str]| workspace.verb(verb, flags).finish();
    let mut told = Vec::new();
    for (name, flags) in [
        ("logs", &["--json"][..]),
        ("status", &["--json"]),
        ("crossings", &[]),
        ("file read", &["held"]),
        ("file read", &["held", "--json"]),
        ("file list", &[]),
        ("file search", &["-"]),
        ("diff", &[]),
        ("diff", &["--json"]),
        ("diff", &["--stat"]),
        ("exec", &["--", value]),
    ] {
        let outcome = verb(name, flags);
        told.extend([outcome.stdout, outcome.stderr]);
    }
    let diff = verb("diff", &[]);
    diff.assert_stdout_has("+[secret TOKEN]").assert_stderr_has("held holds the secret TOKEN");
    diff.assert_stderr_has("packed holds the secret TOKEN");
    let out = work.join("out");
    let out = out.to_str().expect("paths of tests are text");
    verb("export", &[".", "--output", out]).assert_refused(1, &["holds the secret TOKEN", "--with-secrets"]);
    verb("export", &["--as", "patch", "--output", out]).assert_refused(1, &["holds the secret TOKEN"]);
    verb("export", &["clean", "--output", out]).assert_code(0);
    told
}

/// Who asks for it may have it written. A reset keeps it; a supervisor that is started anew has to be told again.
fn told_again(workspace: &Workspace<'_>, value: &str, work: &Path) {
    let verb = |verb: &str, flags: &[&str]| workspace.verb(verb, flags).finish();
    let whole = work.join("whole");
    verb("export", &["held", "--with-secrets", "--output", whole.to_str().expect("text")]).assert_code(0);
    assert_eq!(fs::read_to_string(&whole).expect("it is there"), format!("{value}\n"));

    let echo = || given(workspace, "echo \"$T\"").finish();
    verb("reset", &[]).assert_code(0);
    echo().assert_stdout("[secret TOKEN]\n");
    verb("stop", &[]).assert_code(0);
    verb("start", &[]).assert_code(0).assert_stderr_has("warning: NAMED, TOKEN not told again");
    assert_eq!(workspace.status()["secrets"][1], json!({"name": "TOKEN", "known": false}));
    echo().assert_refused(125, &["TOKEN", "--secret-file"]);
    verb("stop", &[]).assert_code(0);
    workspace.verb("start", &["--secret-file", "TOKEN=-"]).stdin(value.as_bytes()).finish().assert_code(0);
    echo().assert_stdout("[secret TOKEN]\n");
}

fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_model_grants_what_it_never_sees() {
    let home = Home::shared();
    let value = random_value();
    let forms = forms(&value);
    let work = tempfile::tempdir().expect("a directory");
    let file = work.path().join("token");
    fs::write(&file, &value).expect("it is our own directory");
    let flag = format!("TOKEN={}", file.display());
    home.pyro(&["mcp", "serve", "--secret-file", &flag]).finish().assert_refused(2, &["workspace-full"]);

    let mut host = ChatHost::start(&home, work.path(), &["--profile", "workspace-full", "--secret-file", &flag]);
    let [arguments, _] = of_process(&json!(host.server_pid()));
    assert_absent("the server's arguments", &arguments, &forms);
    let made = host.tool("workspace_create", json!({"name": "m"}));
    assert_eq!(made.record()["secrets"], json!(["TOKEN"]));
    let given = json!({"workspace": "m", "command": "echo $T; echo $T > held", "secret_env": {"T": "TOKEN"}});
    let answer = host.tool("workspace_exec", given);
    assert!(answer.text().contains("[secret TOKEN]"), "{}", answer.text());
    host.refused(
        "workspace_exec",
        json!({"workspace": "m", "command": "true", "secret_env": {"T": "NO"}}),
        &["NO", "TOKEN"],
    );
    let mut said = vec![answer.result.to_string()];
    for (tool, arguments) in [
        ("workspace_diff", json!({"workspace": "m"})),
        ("workspace_file_read", json!({"workspace": "m", "path": "held"})),
        ("workspace_file_search", json!({"workspace": "m", "pattern": "t/"})),
        ("workspace_logs", json!({"workspace": "m"})),
        ("workspace_status", json!({"workspace": "m"})),
        ("workspace_crossings", json!({"workspace": "m"})),
    ] {
        said.push(host.tool(tool, arguments).result.to_string());
    }
    said.iter().for_each(|said| assert_absent("an answer", said.as_bytes(), &forms));
    assert!(said[1].contains("held holds the secret TOKEN") && said[6].contains("TOKEN as $T"), "{said:?}");
    host.refused(
        "workspace_export",
        json!({"workspace": "m", "path": "held", "output_path": "held"}),
        &["secret TOKEN"],
    );

    // One that stopped is told again when the server starts it.
    home.pyro(&["workspace", "stop", "m"]).finish().assert_code(0);
    let again = json!({"workspace": "m", "command": "echo $T", "secret_env": {"T": "TOKEN"}});
    assert!(host.tool("workspace_exec", again).text().contains("[secret TOKEN]"));
    home.pyro(&["workspace", "delete", "m", "--force"]).finish().assert_code(0);
}

#[test]
fn what_crosses_the_border_is_written_down_and_stays_readable() {
    let home = Home::shared();
    let work = tempfile::tempdir().expect("a directory");
    let seed = work.path().join("seed");
    fs::create_dir(&seed).expect("it is our own directory");
    fs::write(seed.join("a"), "one\n").expect("it is our own directory");
    let workspace = Workspace::seeded(&home, &seed);
    let source = seed.to_str().expect("paths of tests are text");
    let mut follow = workspace.verb("crossings", &["--follow"]).start();
    follow.wait_for_stdout("seed");

    assert_eq!(workspace.sh("echo two > a"), "");
    workspace.verb("diff", &[]).finish().assert_code(0);
    let patch = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-two\n+three\n";
    workspace.verb("patch apply", &["--patch-file", "-"]).stdin(patch).finish().assert_code(0);
    fs::write(seed.join("b"), "new\n").expect("it is our own directory");
    workspace.verb("sync push", &[source]).finish().assert_code(0);
    let out = work.path().join("out");
    let out = out.to_str().expect("paths of tests are text");
    workspace.verb("export", &["b", "--output", out]).finish().assert_code(0);
    follow.wait_for_stdout(out);
    drop(follow);
    workspace.verb("stop", &[]).finish().assert_code(0);

    let listed = workspace.verb("crossings", &["--json"]).finish().json();
    let rows = listed["crossings"].as_array().expect("a list");
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds, ["seed", "patch_out", "patch_in", "sync_push_begun", "sync_push", "export"]);
    let numbers: Vec<u64> = rows.iter().filter_map(|row| row["sequence"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert_eq!((&rows[0]["source"], &rows[5]["destination"]), (&json!(source), &json!(out)));
    assert_eq!((&rows[5]["bytes"], rows[5]["digest"].as_str().map(str::len)), (&json!(4), Some(64)));
    let since = workspace.verb("crossings", &["--json", "--since", "4"]).finish().json();
    assert_eq!(since["crossings"].as_array().map(Vec::len), Some(2));
    assert_eq!(workspace.status()["crossings"]["counts"]["seed"], 1);
    // Contents are nowhere in it.
    let record = fs::read_to_string(home.path().join("state/workspaces").join(&workspace.id).join("crossings.jsonl"));
    assert!(!record.expect("it is there").contains("three"));
    workspace.delete();
    home.assert_nothing_left();
}
