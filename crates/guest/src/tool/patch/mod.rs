//! Patches: read ([`parse`]), worked out on what is there ([`plan`], [`place`]), then made all at once ([`commit`]).
//!
//! What fits is decided before anything is written, and everything that does not fit is told at once, with the lines
//! that are most like those that were looked for: whoever wrote the patch can then repair all of it.

mod commit;
mod disk;
mod names;
mod parse;
mod place;
mod plan;

use std::io::{Read, Write};

use pyro_wire::patch::{ApplyPatch, PATCH_BYTES_MAX, PatchLine, REJECTIONS_MAX};
use pyro_wire::{Fault, FaultKind};

use super::{Answer, Ground, input};
use disk::Disk;

/// Applies the patch that comes as `patch`.
pub(super) fn apply(
    request: &ApplyPatch,
    ground: &Ground,
    patch: impl Read,
    answer: &mut Answer<impl Write>,
) -> Result<(), Fault> {
    if request.patch_bytes > PATCH_BYTES_MAX {
        return Err(Fault::new(FaultKind::TooLarge, format!("a patch has at most {PATCH_BYTES_MAX} bytes")));
    }
    let mut patch = input::exactly(patch, request.patch_bytes)?;
    if !patch.ends_with(b"\n") {
        patch.push(b'\n');
    }
    let files = parse::parse(&patch).map_err(|error| Fault::new(FaultKind::InvalidArgument, error.to_string()))?;
    let disk = Disk::open(ground).map_err(commit::unusable)?;
    let plan = plan::plan(&disk, &files);
    let rejections = plan.rejections.len() as u64;
    if rejections > 0 {
        for rejection in plan.rejections.into_iter().take(REJECTIONS_MAX) {
            answer.line(&PatchLine::Rejection(rejection))?;
        }
    } else {
        if !request.dry_run {
            commit::commit(ground, &disk, &plan)?;
        }
        for file in plan.files {
            answer.line(&PatchLine::File(file))?;
        }
    }
    answer.line(&PatchLine::End { rejections })
}
