//! What the documents tell people to type: it is read from them and parsed as the program parses it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, ValueEnum};

use crate::mcp::Profile;

#[test]
fn every_command_in_the_documents_is_one() {
    let mut count = 0;
    for (name, text) in documents() {
        for line in typed_lines(&text) {
            for words in commands(&line) {
                let arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
                let refused = super::parse(&arguments).err().map(|refusal| refusal.error);
                let asks =
                    |error: &clap::Error| matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
                let refused = refused.filter(|error| !asks(error));
                assert!(refused.is_none(), "{name}: {line}\n{}", refused.expect("it is there"));
                count += 1;
            }
        }
        for span in spans(&text) {
            check_verb(&name, &span);
        }
    }
    assert!(count > 30, "only {count} commands were found: are they still where this looks?");
}

#[test]
fn the_documents_wire_hosts_as_the_help_does() {
    let page = std::fs::read_to_string(root().join("docs/integrations.md")).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for line in super::wiring!().lines() {
        let (ours, theirs) = line.trim().split_once("  ").unwrap();
        assert!(page.contains(ours) && readme.contains(ours), "{ours}");
        if !theirs.trim_start().ends_with('?') {
            assert!(page.contains(theirs.trim_start()), "{theirs}");
        }
    }
}

#[test]
fn every_tool_in_the_documents_is_one() {
    let mut known = names(Profile::WorkspaceFull);
    known.extend(names(Profile::VmRun));
    for (name, text) in documents() {
        // The reference of the command line names no tools, and that of the tools is written from them.
        if name.ends_with("-reference.md") {
            continue;
        }
        for word in text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_') {
            let is_tool =
                ["vm_", "workspace_", "snapshot_", "shell_", "service_"].iter().any(|head| word.starts_with(head));
            // A head alone stands for all that begin with it.
            if is_tool && !word.ends_with('_') && !NO_TOOLS.contains(&word) {
                assert!(known.iter().any(|tool| tool == word), "{name}: {word} is no tool");
            }
        }
    }
}

#[test]
fn the_documents_count_the_tools_right() {
    let mut count = 0;
    for (name, text) in documents() {
        for (at, _) in text.match_indices(" tools (") {
            let number = text[..at].rsplit(' ').next().unwrap();
            let profile = text[at..].split(['(', ')']).nth(1).unwrap();
            let Ok(profile) = Profile::from_str(profile, false) else { continue };
            assert_eq!(number, names(profile).len().to_string(), "{name}: tools of {profile:?}");
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} places were found: are they still where this looks?");
}

#[test]
fn every_prompt_has_its_recipe() {
    let recipes = std::fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    for name in Profile::WorkspaceFull.prompt_names() {
        assert!(recipes.contains(&format!("\n`{name}` (")), "{name}");
    }
}

#[test]
fn the_documents_name_the_hosts_that_are_tried() {
    let page = std::fs::read_to_string(root().join("docs/integrations.md")).unwrap();
    let pinned = std::fs::read_to_string(root().join("conformance/hosts/package.json")).unwrap();
    let versions: Vec<&str> = pinned
        .split('"')
        .filter_map(|word| word.trim_start_matches("npm:@openai/codex@").split('-').next())
        .filter(|word| word.split('.').count() == 3 && word.starts_with(|one: char| one.is_ascii_digit()))
        .collect();
    assert_eq!(versions.len(), 3, "{versions:?}");
    for version in versions {
        assert!(page.contains(&format!(" {version}")) || page.contains(&format!("\n{version}")), "{version}");
    }
}

/// Words in the documents that look like tools and are settings of other programs.
const NO_TOOLS: [&str; 1] = ["shell_tool"];

fn names(profile: Profile) -> Vec<String> {
    profile.tool_names().map(str::to_owned).collect()
}

#[test]
fn every_command_in_a_hint_is_one() {
    let mut count = 0;
    for crate_name in ["pyro", "engine"] {
        let top = root().join("crates").join(crate_name).join("src");
        for text in sources(&top) {
            // A text that goes on in the next line does so behind a backslash.
            let text = text.replace("\\\n", " ");
            for (at, _) in text.match_indices("'pyro ") {
                let rest = &text[at + 1..];
                let span = &rest[..rest.find('\'').unwrap_or(0)];
                check_verb(crate_name, span);
                count += 1;
            }
        }
    }
    assert!(count > 30, "only {count} commands were found: are they still where this looks?");
}

fn sources(dir: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            texts.push(std::fs::read_to_string(&path).unwrap());
        }
    }
    texts
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn documents() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    paths.extend([root().join("README.md"), root().join("CONTRIBUTING.md")]);
    let read = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The lines of the blocks that are marked as a shell's.
fn typed_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut in_shell = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(kind) => in_shell = matches!(kind, "sh" | "console" | "bash"),
            None if in_shell => lines.push(line.to_owned()),
            None => {}
        }
    }
    lines
}

/// What stands between backticks and begins with pyro's name.
fn spans(text: &str) -> Vec<String> {
    let outside_blocks = text.split("\n```").step_by(2);
    let spans = outside_blocks.flat_map(|part| part.split('`').skip(1).step_by(2));
    spans.filter(|span| span.starts_with("pyro ")).map(str::to_owned).collect()
}

/// The verb of a span is one; what follows it is for readers, not for a parser.
fn check_verb(name: &str, span: &str) {
    let top = super::Cli::command();
    let mut command: &Command = &top;
    for word in span.split_whitespace().skip(1) {
        let is_plain = word.chars().all(|one| one.is_ascii_lowercase() || one == '-') && !word.starts_with('-');
        if !is_plain || !command.has_subcommands() {
            return;
        }
        let inner = command.find_subcommand(word);
        command = inner.unwrap_or_else(|| panic!("{name}: `{span}`: there is no '{word}'"));
    }
}

/// The commands of a line that start pyro, as their words: without what follows in a pipe, and without comments.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for one in line.chars().chain(['\n']) {
        match (quote, one) {
            (Some(mark), _) if one == mark => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(one),
            (None, '\'' | '"') => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t' | '\n' | '|' | ';' | '>' | '&') => {
                words.extend(word.take());
                if !matches!(one, ' ' | '\t') {
                    found.push(std::mem::take(&mut words));
                }
            }
            (None, _) => word.get_or_insert_default().push(one),
        }
    }
    words.extend(word);
    found.push(words);
    for words in &mut found {
        let settings = words.iter().take_while(|word| word.split_once('=').is_some_and(|(name, _)| is_variable(name)));
        let count = settings.count();
        words.drain(..count);
    }
    found.retain(|words| words.first().is_some_and(|word| word == "pyro"));
    found
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|one| one.is_ascii_uppercase() || one == '_')
}

#[test]
fn words_are_read_as_a_shell_reads_them() {
    let words = |line| commands(line);
    assert_eq!(
        words("tar c . | pyro run -i x -- sh -c 'a | b' # why"),
        [["pyro", "run", "-i", "x", "--", "sh", "-c", "a | b"]]
    );
    assert_eq!(words("K=V pyro doctor && pyro env list"), [vec!["pyro", "doctor"], vec!["pyro", "env", "list"]]);
    assert!(words("# pyro doctor").is_empty() && words("make pyro").is_empty());
}
