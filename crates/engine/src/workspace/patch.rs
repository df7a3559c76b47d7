//! `patch`: a patch applied to the workspace, all of it or nothing.
//!
//! The guest reads and applies it, since the files are there. What does not fit comes back with the lines that are most
//! like those the patch expects, so that whoever wrote it can write it again.

use pyro_wire::patch::{ApplyPatch, PATCH_BYTES_MAX, PatchLine, REJECTIONS_MAX};

use ring::digest::{SHA256, digest};

use super::tool::{ANSWER_BYTES_MAX, Tool, ToolError, ToolHost, collect, garbled, parse_lines};
use crate::store::crossing_record::{CrossedPatch, Crossing};
use crate::store::hex;

pub use pyro_wire::patch::{HunkPlace, MissedHunk, PatchAction, PatchedFile, Rejection};

/// Longest patch, in bytes.
pub const PATCH_MAX: u64 = PATCH_BYTES_MAX;

/// Whether a patch is applied, or only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchMode {
    /// It is applied.
    Apply,
    /// It is found out whether it would apply.
    DryRun,
}

/// Why a patch was not applied. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// It is longer than a patch may be.
    #[error("the patch has {size_bytes} bytes, more than the {PATCH_BYTES_MAX} that one may have")]
    TooLarge {
        /// Its length.
        size_bytes: u64,
    },
    /// It does not fit what is there.
    #[error("the patch does not apply: {}", first_words(rejections, *count))]
    Rejected {
        /// What stands against it; the first ones.
        rejections: Vec<Rejection>,
        /// How many files it does not fit.
        count: u64,
    },
    /// The guest did not do it, or could not read the patch.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// Applies a patch in the form of `git diff`, its paths relative to the workspace; what it did, file by file.
///
/// # Errors
/// See [`PatchError`].
pub async fn apply(host: &impl ToolHost, patch: &[u8], mode: PatchMode) -> Result<Vec<PatchedFile>, PatchError> {
    let size_bytes = patch.len() as u64;
    if size_bytes > PATCH_BYTES_MAX {
        return Err(PatchError::TooLarge { size_bytes });
    }
    let tool = Tool::ApplyPatch(ApplyPatch { patch_bytes: size_bytes, dry_run: mode == PatchMode::DryRun });
    let mut input = patch;
    let mut lines = parse_lines(&collect(host, tool, Some(&mut input), ANSWER_BYTES_MAX).await?)?;
    let Some(PatchLine::End { rejections: count }) = lines.pop() else {
        return Err(garbled("the outcome of a patch without an end").into());
    };
    let (mut files, mut rejections) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            PatchLine::File(file) => files.push(file),
            PatchLine::Rejection(rejection) => rejections.push(rejection),
            PatchLine::End { .. } => return Err(garbled("the outcome of a patch with two ends").into()),
        }
    }
    if (count > 0) != files.is_empty() || rejections.len() as u64 != count.min(REJECTIONS_MAX as u64) {
        return Err(garbled("the outcome of a patch that does not add up").into());
    }
    if count > 0 {
        return Err(PatchError::Rejected { rejections, count });
    }
    if mode == PatchMode::Apply {
        host.cross(Crossing::PatchIn(CrossedPatch {
            path: None,
            entries: files.len() as u64,
            bytes: size_bytes,
            digest: hex::encode(digest(&SHA256, patch).as_ref()),
        }))
        .await?;
    }
    Ok(files)
}

fn first_words(rejections: &[Rejection], count: u64) -> String {
    let Some(first) = rejections.first() else { return "it does not fit".to_owned() };
    let path = String::from_utf8_lossy(first.path.as_bytes());
    match count {
        0..=1 => format!("{path}: {}", first.reason),
        _ => format!("{path}: {}, and {} more", first.reason, count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tool::CannedHost;
    use super::{Crossing, PatchError, PatchMode, Tool, ToolError, apply};

    #[tokio::test]
    async fn a_patch_is_sent_whole_and_its_outcome_read() {
        let answer = concat!(
            r#"{"file":{"path":"x","action":"modify","hunks":[{"line":1,"offset":0}],"added":1,"removed":1}}"#,
            "\n{\"end\":{\"rejections\":0}}\n"
        );
        let host = CannedHost::answering(answer);
        let files = apply(&host, b"a patch", PatchMode::DryRun).await.unwrap();
        assert_eq!((files.len(), files[0].path.as_bytes()), (1, &b"x"[..]));
        let call = host.calls.lock().unwrap().pop();
        let Some((Tool::ApplyPatch(request), input)) = call else { panic!("one call") };
        assert_eq!((request.dry_run, request.patch_bytes, input.as_slice()), (true, 7, &b"a patch"[..]));
        assert!(host.crossed.lock().unwrap().is_empty(), "a trial is no crossing");
        apply(&host, b"a patch", PatchMode::Apply).await.unwrap();
        let crossed = host.crossed.lock().unwrap();
        assert!(matches!(&crossed[..], [Crossing::PatchIn(patch)] if (patch.entries, patch.bytes) == (1, 7)));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told_in_one_line() {
        let answer = concat!(
            r#"{"rejection":{"path":"x","reason":"there is no x"}}"#,
            "\n",
            r#"{"rejection":{"path":"y","reason":"there is no y"}}"#,
            "\n{\"end\":{\"rejections\":2}}\n"
        );
        let error = apply(&CannedHost::answering(answer), b"a patch", PatchMode::Apply).await.unwrap_err();
        assert_eq!(error.to_string(), "the patch does not apply: x: there is no x, and 1 more");
    }

    #[tokio::test]
    async fn an_outcome_that_does_not_add_up_is_none() {
        for answer in ["", "{\"end\":{\"rejections\":0}}\n", "{\"end\":{\"rejections\":1}}\n", "{\"end\":{}}\n"] {
            let error = apply(&CannedHost::answering(answer), b"a patch", PatchMode::Apply).await.unwrap_err();
            assert!(matches!(error, PatchError::Tool(ToolError::Garbled { .. })), "{answer}: {error}");
        }
    }
}
