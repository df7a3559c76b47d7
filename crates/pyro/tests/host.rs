//! Chat hosts' configurations as their users have them: what comes in, what stays, what goes out again. No chat host is
//! needed: `make smoke-hosts` drives the real ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot begin may end in any way")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const HOSTS: [&str; 3] = ["claude-code", "codex", "opencode"];

/// A home with its own programs, and a project in it.
struct Home {
    dir: tempfile::TempDir,
}

/// What a command did.
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "project"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Puts a program into the `PATH`.
    fn program(&self, name: &str, script: &str) {
        self.write(&format!("bin/{name}"), script);
        std::fs::set_permissions(self.path(&format!("bin/{name}")), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "the test drives the program itself")]
    fn pyro(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
        command.args(arguments).env_clear().env("HOME", self.dir.path()).env("PATH", self.path("bin"));
        let output = command.current_dir(self.path("project")).stdin(Stdio::null()).output().unwrap();
        let clean = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(env!("CARGO_BIN_EXE_pyro"), "/opt/pyro").replace(self.dir.path().to_str().unwrap(), "~")
        };
        Told { code: output.status.code().unwrap(), stdout: clean(output.stdout), stderr: clean(output.stderr) }
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Told {
        let told = self.pyro(arguments);
        assert_eq!(told.code, 0, "{arguments:?}: {}{}", told.stdout, told.stderr);
        told
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.pyro(&[arguments, &["--json"]].concat()).stdout).unwrap()
    }

    /// Every file but pyro's own, with what is in it.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        collect(self.dir.path(), &mut found);
        found.retain(|path, _| !path.starts_with(self.path(".local")));
        found
    }
}

fn collect(dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.insert(entry.path(), std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// Configurations as people have them.
fn lived_in() -> Home {
    let home = Home::new();
    home.write(
        ".claude.json",
        "{\n  \"numStartups\": 7,\n  \"mcpServers\": {\n    \"github\": {\n      \"type\": \"http\",\n      \
         \"url\": \"https://example.com/mcp\"\n    }\n  },\n  \"projects\": {}\n}\n",
    );
    home.write(
        ".claude/settings.json",
        "{\n  \"permissions\": {\n    \"deny\": [\n      \"Bash\",\n      \"Read(./.env)\"\n    ]\n  },\n  \"model\": \"opus\"\n}\n",
    );
    home.write(
        ".codex/config.toml",
        "# how I like it\nmodel = \"gpt-5.5\" # for now\nsandbox_mode = \"workspace-write\"\n\n[features]\ngoals = false\n\n\
         [mcp_servers.docs]\ncommand = \"docs-server\" # mine\n\n[projects.\"/src\"]\ntrust_level = \"trusted\"\n",
    );
    home.write(
        ".config/opencode/opencode.jsonc",
        "{\n  // how I like it\n  \"theme\": \"dark\",\n  \"permission\": {\n    \"bash\": \"ask\", // always\n  },\n  \
         \"mcp\": {\n    /* mine */\n    \"docs\": { \"type\": \"local\", \"command\": [\"docs-server\"] },\n  },\n}\n",
    );
    home
}

#[test]
fn a_lived_in_configuration_keeps_what_its_user_wrote() {
    let home = lived_in();
    for host in HOSTS {
        let told = home.done(&["host", "install", host, "--profile", "vm-run"]);
        assert!(told.stdout.contains("answers with 1 tools (vm-run)"), "{}", told.stdout);
    }
    let configured = [".claude.json", ".codex/config.toml", ".config/opencode/opencode.jsonc"];
    let shown: Vec<String> = configured.iter().map(|name| format!("==> {name}\n{}", home.read(name))).collect();
    let shown = shown.join("\n").replace(env!("CARGO_BIN_EXE_pyro"), "/opt/pyro");
    insta::assert_snapshot!("host_install", shown);
}

#[test]
fn again_changes_nothing_and_removing_gives_the_files_back() {
    for flags in [&[][..], &["--sandbox-only"]] {
        for home in [lived_in(), Home::new()] {
            let before = home.files();
            for host in HOSTS {
                let install = [&["host", "install", host], flags].concat();
                home.done(&install);
                let once = home.files();
                let told = home.done(&install);
                assert!(told.stdout.contains("knows pyro already, nothing was changed"), "{}", told.stdout);
                assert_eq!(home.files(), once);
            }
            assert_ne!(home.files(), before);
            for host in HOSTS {
                home.done(&["host", "remove", host]);
                let told = home.done(&["host", "remove", host]);
                assert!(told.stdout.contains("did not know pyro"), "{}", told.stdout);
            }
            assert_eq!(home.files(), before, "{flags:?}");
            assert_eq!(std::fs::read_dir(home.path(".local/state/pyro/hosts")).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_dry_run_shows_a_diff_and_touches_nothing() {
    let home = lived_in();
    let before = home.files();
    let mut shown = String::new();
    for host in HOSTS {
        let told = home.done(&["host", "install", host, "--dry-run", "--sandbox-only"]);
        shown.push_str(&told.stdout);
        shown.push_str(&told.stderr);
    }
    insta::assert_snapshot!("host_install_dry_run", shown);
    assert_eq!(home.files(), before);
    assert!(!home.path(".local").exists());
    assert_eq!(home.done(&["host", "remove", "codex", "--dry-run"]).stdout, "nothing would change\n");
}

#[test]
fn an_entry_is_brought_up_to_date_and_keeps_what_its_user_added() {
    let home = Home::new();
    home.write(
        ".codex/config.toml",
        "[mcp_servers.pyro]\ncommand = \"/old/pyro\"\nargs = [\"mcp\", \"serve\"]\nenabled = false\ntool_timeout_sec = 90 # slow\n",
    );
    let told = home.done(&["host", "install", "codex", "--allow-path", "."]);
    assert!(told.stdout.contains("was brought up to date"), "{}", told.stdout);
    let text = home.read(".codex/config.toml");
    assert!(text.contains("tool_timeout_sec = 90 # slow") && text.contains("enabled = true"), "{text}");
    let allowed = home.path("project").canonicalize().unwrap();
    assert!(text.contains(&format!("[\"mcp\", \"serve\", \"--allow-path\", \"{}\"]", allowed.display())), "{text}");
}

#[test]
fn a_projects_file_names_no_path_of_this_computer() {
    let home = Home::new();
    home.program("pyro", &format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_pyro")));
    for (host, file) in [("claude-code", ".mcp.json"), ("codex", ".codex/config.toml"), ("opencode", "opencode.json")] {
        let told = home.done(&["host", "install", host, "--scope", "project"]);
        assert!(told.stdout.contains("needs pyro in the PATH"), "{}", told.stdout);
        let text = home.read(&format!("project/{file}"));
        assert!(text.contains("\"pyro\"") && !text.contains(env!("CARGO_BIN_EXE_pyro")), "{text}");
        let told = home.done(&["host", "remove", host]);
        assert!(told.stdout.contains("still has pyro in its project scope"), "{}", told.stdout);
    }
}

#[test]
fn the_hosts_own_command_is_used_where_it_is_installed() {
    let home = Home::new();
    // As the real one does: it adds the entry, and other things of its own.
    let script = "#!/bin/sh\ncase \"$2\" in\nadd) printf '{\\n  \"userID\": \"me\",\\n  \"mcpServers\": {\\n    \"pyro\": \
         {\\n      \"type\": \"stdio\",\\n      \"command\": \"%s\",\\n      \"args\": [\"mcp\", \"serve\"],\\n      \"env\": {}\\n    }\\n  }\\n}' \"$7\" ;;\n\
         remove) printf '{\\n  \"userID\": \"me\",\\n  \"mcpServers\": {}\\n}' ;;\nesac > \"$HOME/.claude.json\"\n";
    home.program("claude", script);
    let report = home.json(&["host", "install", "claude-code"]);
    let words = ["claude", "mcp", "add", "--scope", "user", "pyro", "--", "/opt/pyro", "mcp", "serve"];
    assert_eq!(report["own_command"], json!(words), "{report}");
    assert_eq!(report["connection"]["ok"], true, "{report}");
    assert_eq!(home.json(&["host", "install", "claude-code"])["outcome"], "unchanged");
    assert_eq!(home.json(&["host", "remove", "claude-code"])["own_command"][2], "remove");
    assert_eq!(home.read(".claude.json"), "{\n  \"userID\": \"me\"\n}");
}

#[test]
fn a_host_whose_own_command_fails_is_configured_all_the_same() {
    let home = Home::new();
    home.program("codex", "#!/bin/sh\necho 'no such command' >&2\nexit 64\n");
    let told = home.done(&["host", "install", "codex"]);
    assert!(told.stdout.contains("failed (no such command), so the file was written"), "{}", told.stdout);
    assert!(home.read(".codex/config.toml").contains("[mcp_servers.pyro]"));
}

#[test]
fn status_says_what_is_wrong() {
    let home = Home::new();
    let status = |host: &str| home.pyro(&["host", "status", host]);
    let told = status("codex");
    assert_eq!(told.code, 1);
    insta::assert_snapshot!("host_status_missing", told.stdout);

    home.write(".codex/config.toml", "[mcp_servers.pyro]\ncommand = \"/nowhere/pyro\"\nargs = [\"mcp\", \"serve\"]\n");
    let told = status("codex");
    assert_eq!(told.code, 1);
    insta::assert_snapshot!("host_status_broken", told.stdout);

    home.write(".codex/config.toml", "[mcp_servers.pyro]\nurl = \"https://example.com\"\n");
    let told = status("codex");
    assert_eq!(told.code, 1);
    assert!(told.stdout.contains("another server is called pyro"), "{}", told.stdout);
    let refused = home.pyro(&["host", "install", "codex"]);
    assert_eq!(refused.code, 1);
    insta::assert_snapshot!("host_install_foreign", refused.stderr);
    assert!(home.done(&["host", "remove", "codex"]).stdout.contains("did not know pyro"));

    home.write(".config/opencode/opencode.json", "{\n  \"mcp\": {,}\n}\n");
    assert!(status("opencode").stdout.contains("line 2"), "{}", status("opencode").stdout);
    insta::assert_snapshot!("host_install_broken_file", home.pyro(&["host", "install", "opencode"]).stderr);
}

#[test]
fn status_proves_the_connection() {
    let home = Home::new();
    let install = home.done(&["host", "install", "opencode", "--sandbox-only"]);
    assert!(install.stdout.contains("takes away OpenCode"), "{}", install.stdout);
    let report = home.json(&["host", "status", "opencode"]);
    let host = &report["hosts"][0];
    assert_eq!((&report["ok"], &host["connected"], &host["sandbox_only"]), (&json!(true), &json!(true), &json!(true)));
    assert_eq!(host["connection"]["server"], "pyro");
    assert_eq!(host["connection"]["profile"], "workspace-core");
    assert_eq!(host["connection"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(host["connection"]["tools"].as_array().unwrap().iter().any(|tool| tool == "workspace_create"));
    assert_eq!(host["entries"][0]["this_program"], true);
    // Without a name: all of them, and those that do not know pyro do not count.
    assert_eq!(home.pyro(&["host", "status"]).code, 0);
    // A project's entry wins over the user's.
    home.write(
        "project/opencode.json",
        "{\"mcp\": {\"pyro\": {\"type\": \"local\", \"command\": [\"nowhere\", \"mcp\", \"serve\"]}}}",
    );
    let told = home.pyro(&["host", "status", "opencode"]);
    assert_eq!(told.code, 1);
    assert!(told.stdout.contains("is not heeded"), "{}", told.stdout);
}

#[test]
fn what_is_printed_is_what_is_needed() {
    let home = Home::new();
    let mut shown = String::new();
    for host in HOSTS {
        let told = home.done(&["host", "print-config", host, "--sandbox-only"]);
        shown.push_str(&format!("--- {host}, stderr\n{}--- stdout\n{}", told.stderr, told.stdout));
    }
    insta::assert_snapshot!("host_print_config", shown);
    assert_eq!(home.files(), BTreeMap::new());
}

#[test]
fn secrets_are_registered_by_their_files_and_never_read() {
    let home = Home::new();
    home.write("token", "s3cr3t-value");
    let token = home.path("token");
    let flag = format!("TOKEN={}", token.display());
    let flags = ["--secret-file", &flag, "--allow-host", "DB.corp.example:5432"];
    for host in HOSTS {
        let refused = home.pyro(&[&["host", "install", host][..], &flags].concat());
        assert!(refused.code == 2 && refused.stderr.contains("workspace-full"), "{}", refused.stderr);
        let words = [&["host", "print-config", host, "--profile", "workspace-full"][..], &flags].concat();
        let told = home.done(&words).stdout;
        assert!(told.contains("--secret-file") && told.contains("TOKEN=~/token"), "{told}");
        assert!(told.contains("--allow-host") && told.contains("db.corp.example:5432"), "{told}");
        assert!(!told.contains("s3cr3t-value"), "{told}");
    }
    for bad in ["s3cr3t-value", "TOKEN=-", "=x", "TOKEN="] {
        let words = ["host", "install", "codex", "--profile", "workspace-full", "--secret-file", bad];
        let refused = home.pyro(&words);
        assert_eq!(refused.code, 2, "{bad}");
        assert!(!refused.stderr.contains("s3cr3t-value"), "{}", refused.stderr);
    }
    let gone =
        home.pyro(&["host", "install", "codex", "--profile", "workspace-full", "--secret-file", "TOKEN=nowhere"]);
    assert!(gone.code == 2 && gone.stderr.contains("nowhere"), "{}", gone.stderr);
}
