//! What a guest may answer that is no answer. How the two sides work together is tested where the tools are.

use super::super::guest_path::GuestPath;
use super::super::seed::tree::SeedTree;
use super::super::seed::{GitUser, Reach, SeedRequest, survey};
use super::super::tool::{CannedHost, Tool, ToolError};
use super::{PushError, PushRequest, push};

fn request(dir: &tempfile::TempDir) -> SeedRequest {
    std::fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
    std::fs::write(dir.path().join("tree/a"), "a").unwrap();
    SeedRequest {
        source: dir.path().join("tree"),
        all: false,
        secrets: false,
        git: GitUser::default(),
        reach: Reach::Anywhere,
        archive_bytes_max: 1 << 20,
        scratch_dir: dir.path().to_owned(),
    }
}

fn tree() -> (tempfile::TempDir, SeedTree) {
    let dir = tempfile::tempdir().unwrap();
    let tree = survey(&request(&dir)).unwrap();
    (dir, tree)
}

/// The directories that are asked about are the source's root and `sub`.
#[track_caller]
fn check_garbled(answer: &str) {
    let (_dir, tree) = tree();
    let host = CannedHost::answering(answer);
    let looked = block_on(super::look(&host, &GuestPath::workspace(), &tree, true));
    assert!(matches!(looked, Err(PushError::Tool(ToolError::Garbled { .. }))), "{answer}");
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

const LISTED: &str = "{\"directory\":{\"found\":\"listed\"}}\n";
const MISSING: &str = "{\"directory\":{\"found\":\"missing\"}}\n";
const END: &str = "\"end\"\n";

fn entry(name: &str) -> String {
    format!(
        "{{\"entry\":{{\"name\":\"{name}\",\"kind\":\"directory\",\"size_bytes\":0,\"mode\":493,\"modified_unix_ns\":0}}}}\n"
    )
}

#[test]
fn an_inventory_is_of_what_was_asked() {
    check_garbled("");
    check_garbled(END);
    check_garbled(&[LISTED, END].concat());
    check_garbled(&[LISTED, LISTED, LISTED, END].concat());
    check_garbled(&[LISTED, MISSING].concat());
    check_garbled(&[LISTED, MISSING, END, END].concat());
    check_garbled(&[&entry("x"), LISTED, MISSING, END].concat());
    check_garbled(&[LISTED, MISSING, &entry("x"), END].concat());
    for name in ["..", "a/b", "", ".", "a\\u0000"] {
        check_garbled(&[LISTED, &entry(name), MISSING, END].concat());
    }
    check_garbled(&[LISTED, &entry("x"), &entry("x"), MISSING, END].concat());
}

#[test]
fn what_the_source_has_is_asked_about_and_what_it_lacks_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let host = CannedHost::answering([MISSING, MISSING, END].concat());
    let request = PushRequest {
        source: request(&dir),
        destination: GuestPath::workspace(),
        delete: false,
        called: "tree".to_owned(),
    };
    let pushed = block_on(push(&host, request, &|_| ()));
    // The same words are no answer to what is sent.
    assert!(matches!(pushed, Err(PushError::Tool(ToolError::Garbled { .. }))));
    let calls = host.calls.lock().unwrap();
    assert_eq!(calls[0].1, b"\"\"\n\"sub\"\n");
    assert!(matches!(calls[1].0, Tool::Receive(_)));
}
