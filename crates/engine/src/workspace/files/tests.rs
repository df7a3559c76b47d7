//! What is asked of a guest, and what is made of its answers; honest and other ones.

use pyro_wire::files::{Edit, Read, Write};

use super::{
    ChangeError, Difference, Edited, FilePart, GuestPath, PartLength, ReadRange, Replacement, Tool, ToolError,
    WRITE_BYTES_MAX, edit, list, read, write,
};
use crate::workspace::tool::CannedHost;

fn path() -> GuestPath {
    GuestPath::new("f").unwrap()
}

const ENTRY: &str = r#"{"entry":{"path":"a","kind":"file","size_bytes":1,"mode":420,"modified_unix_ns":0}}"#;

#[tokio::test]
async fn a_listing_has_one_end_and_no_more_than_was_asked_for() {
    let listed = async |answer: String| list(&CannedHost::answering(answer), &path(), false, 1).await;
    let end = r#"{"end":{"truncated":true}}"#;
    let listing = listed(format!("{ENTRY}\n{end}\n")).await.unwrap();
    assert_eq!((listing.entries.len(), listing.truncated), (1, true));
    for answer in [
        String::new(),
        format!("{ENTRY}\n"),
        format!("{ENTRY}\n{end}"),
        format!("{end}\n{end}\n"),
        format!("{end}\n{ENTRY}\n"),
        format!("{ENTRY}\n{ENTRY}\n{end}\n"),
    ] {
        assert!(matches!(listed(answer.clone()).await, Err(ToolError::Garbled { .. })), "{answer}");
    }
}

const HEAD: &str = r#"{"size_bytes":9,"mode":420,"modified_unix_ns":0,"is_text":true,"offset_bytes":2,"at_end":false,"content_bytes":3}"#;

#[tokio::test]
async fn content_is_as_long_as_it_says() {
    let range = ReadRange::Bytes { offset: 2 };
    let host = CannedHost::answering(format!("{HEAD}\na\nb"));
    let part = read(&host, &path(), range, 3).await.unwrap();
    assert_eq!((part.content.as_slice(), part.next()), (&b"a\nb"[..], Some(ReadRange::Bytes { offset: 5 })));
    let asked = Tool::Read(Read { path: "/workspace/f".into(), range, bytes_max: 3 });
    assert_eq!(host.calls.lock().unwrap().as_slice(), [(asked, vec![])]);
    for (answer, bytes_max) in [("a\nb", 2), ("a\n", 3), ("a\nbc", 3)] {
        let host = CannedHost::answering(format!("{HEAD}\n{answer}"));
        assert!(matches!(read(&host, &path(), range, bytes_max).await, Err(ToolError::Garbled { .. })), "{answer}");
    }
}

#[track_caller]
fn check_next(first_line: Option<u64>, content: &str, at_end: bool, next: Option<ReadRange>) {
    let part = FilePart {
        size_bytes: 100,
        mode: 0o644,
        modified_unix_ns: 0,
        is_text: true,
        line_count: None,
        offset_bytes: 10,
        first_line,
        at_end,
        content: content.into(),
        length: PartLength::of(content.as_bytes()),
        secrets: Vec::new(),
    };
    assert_eq!(part.next(), next);
}

#[test]
fn reading_goes_on_at_a_line_where_one_begins() {
    check_next(Some(4), "a\nb\n", false, Some(ReadRange::Lines { first: 6, count: None }));
    check_next(Some(4), "", false, Some(ReadRange::Lines { first: 4, count: None }));
    check_next(Some(4), "a\nb", false, Some(ReadRange::Bytes { offset: 13 }));
    check_next(None, "a\n", false, Some(ReadRange::Bytes { offset: 12 }));
    check_next(Some(4), "a\nb", true, None);
}

#[tokio::test]
async fn content_goes_as_input_and_has_a_limit() {
    let host = CannedHost::answering("{\"created\":true,\"size_bytes\":2,\"mode\":420}\n");
    assert!(write(&host, &path(), b"hi").await.unwrap().created);
    let asked = Tool::Write(Write { path: "/workspace/f".into(), size_bytes: 2 });
    assert_eq!(host.calls.lock().unwrap().as_slice(), [(asked, b"hi".to_vec())]);
    let long = vec![0; WRITE_BYTES_MAX as usize + 1];
    assert!(matches!(write(&host, &path(), &long).await, Err(ChangeError::TooLarge)));
}

async fn edited(answer: &str) -> Result<Edited, ChangeError> {
    let host = CannedHost::answering(format!("{answer}\n"));
    let result = edit(&host, &path(), Replacement { old: b"old", new: b"ne", everywhere: true }).await;
    let asked = Edit { path: "/workspace/f".into(), old_bytes: 3, new_bytes: 2, replace_all: true };
    assert_eq!(host.calls.lock().unwrap().as_slice(), [(Tool::Edit(asked), b"oldne".to_vec())]);
    result
}

#[tokio::test]
async fn an_edit_says_what_it_changed_or_why_it_did_not() {
    let done = edited(r#"{"done":{"count":1,"lines":[3],"size_bytes":8}}"#).await.unwrap();
    assert_eq!(done, Edited { count: 1, lines: vec![3], size_bytes: 8 });
    let words = async |answer: &str| edited(answer).await.unwrap_err().to_string();
    assert_eq!(
        words(r#"{"missing":{"nearest":[{"number":3,"text":"x"},{"number":4,"text":"y"}],"difference":null}}"#).await,
        "the text is not in /workspace/f; most like it: lines 3 to 4"
    );
    assert_eq!(
        words(r#"{"missing":{"nearest":[{"number":3,"text":"x"}],"difference":"blanks"}}"#).await,
        "the text is not in /workspace/f; it is at line 3 but for spaces and tabs"
    );
    assert_eq!(
        words(r#"{"missing":{"nearest":[],"difference":null}}"#).await,
        "the text is not in /workspace/f, and nothing is like it"
    );
    assert_eq!(
        words(r#"{"ambiguous":{"count":3,"lines":[3,9]}}"#).await,
        "the text is 3 times in /workspace/f, lines 3, 9 and more"
    );
    let missing = edited(r#"{"missing":{"nearest":[],"difference":"line_ends"}}"#).await;
    assert!(matches!(missing, Err(ChangeError::Missing { difference: Some(Difference::LineEnds), .. })));
    assert!(matches!(edited("{}").await, Err(ChangeError::Tool(ToolError::Garbled { .. }))));
}
