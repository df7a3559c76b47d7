//! The tools for files, over a directory in place of a machine.

mod ground;

use std::os::unix::fs::{PermissionsExt, symlink};

use pyro_wire::files::{EntryKind, List, ListLine};
use pyro_wire::{FaultKind, Tool};

use crate::ground::Ground;

fn list(path: &str, recursive: bool, entries_max: u32) -> Tool {
    Tool::List(List { path: path.into(), recursive, entries_max })
}

/// The paths of a listing, and whether it was cut.
fn listed(ground: &Ground, tool: &Tool) -> (Vec<String>, bool) {
    let mut lines = ground.lines::<ListLine>(tool).expect("listed");
    let Some(ListLine::End { truncated }) = lines.pop() else { panic!("a listing has an end") };
    let path = |line| match line {
        ListLine::Entry(entry) => String::from_utf8_lossy(entry.path.as_bytes()).into_owned(),
        ListLine::End { .. } => panic!("a listing has one end"),
    };
    (lines.into_iter().map(path).collect(), truncated)
}

#[track_caller]
fn check_list(ground: &Ground, tool: &Tool, paths: &[&str], truncated: bool) {
    let (found, cut) = listed(ground, tool);
    assert_eq!((found.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), cut), (paths, truncated));
}

fn tree() -> Ground {
    let ground = Ground::new();
    ground.put("b.txt", "bee");
    ground.put("a/2", "");
    ground.put("a/1/x", "");
    ground.put("c", "");
    symlink("/workspace/a", ground.workspace("link")).expect("a link");
    ground
}

#[test]
fn a_listing_is_sorted_and_cut_where_it_was_asked_to_be() {
    let ground = tree();
    check_list(&ground, &list("/workspace", false, 100), &["a", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", true, 100), &["a", "a/1", "a/1/x", "a/2", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", true, 7), &["a", "a/1", "a/1/x", "a/2", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", true, 3), &["a", "a/1", "a/1/x"], true);
    check_list(&ground, &list("/workspace", false, 4), &["a", "b.txt", "c", "link"], false);
    check_list(&ground, &list("/workspace", false, 2), &["a", "b.txt"], true);
    check_list(&ground, &list("/workspace/link", false, 100), &["1", "2"], false);
    check_list(&ground, &list("/workspace/b.txt", false, 100), &["b.txt"], false);
    check_list(&ground, &list("/", false, 100), &["workspace"], false);
}

#[test]
fn an_entry_says_what_it_is() {
    let ground = tree();
    std::fs::set_permissions(ground.workspace("b.txt"), PermissionsExt::from_mode(0o4751)).expect("permitted");
    let lines = ground.lines::<ListLine>(&list("/workspace", false, 100)).expect("listed");
    let entries: Vec<_> = lines
        .into_iter()
        .filter_map(|line| if let ListLine::Entry(entry) = line { Some(entry) } else { None })
        .collect();
    let [a, b, _, link] = entries.as_slice() else { panic!("four entries") };
    assert_eq!(a.kind, EntryKind::Directory);
    assert_eq!((b.kind, b.size_bytes, b.mode, &b.target), (EntryKind::File, 3, 0o4751, &None));
    assert!(b.modified_unix_ns > 1_500_000_000_000_000_000);
    assert_eq!((link.kind, link.target.as_ref()), (EntryKind::Symlink, Some(&"/workspace/a".into())));
}

#[track_caller]
fn check_fault(ground: &Ground, tool: &Tool, kind: FaultKind, message: &str) {
    let fault = ground.run(tool, b"").expect_err("refused");
    assert_eq!((fault.kind, fault.message.as_str()), (kind, message));
}

#[test]
fn what_cannot_be_listed_says_why() {
    let ground = tree();
    symlink("/workspace/../..", ground.workspace("out")).expect("a link");
    check_list(&ground, &list("/workspace/out", false, 1), &["workspace"], false);
    check_fault(&ground, &list("/nowhere", false, 1), FaultKind::NotFound, "cannot open /nowhere: it is not there");
    check_fault(&ground, &list("here", false, 1), FaultKind::InvalidArgument, "here is not an absolute path");
    let below_file = "cannot open /workspace/c/x: a part of it is no directory";
    check_fault(&ground, &list("/workspace/c/x", false, 1), FaultKind::WrongKind, below_file);
}
