//! House rules that no lint knows: which room may use which, what every file has, what no file may have.
//!
//! [`arrows`] between crates and rooms, [`files`] and their headers, lengths, names and words, [`unsafety`] as a ratchet,
//! [`links`] in the pages, [`budgets`]. Rules that clippy checks are not repeated here.

mod arrows;
mod budgets;
mod files;
mod links;
mod scrub;
mod unsafety;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::shell::{self, command, root};

/// One text file of the repository.
struct Page {
    /// Path from the top, with `/`.
    path: String,
    /// Its whole text.
    text: String,
}

impl Page {
    fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    fn is_markdown(&self) -> bool {
        has_extension(&self.path, "md")
    }
}

/// Checks all rules and lists what breaks them.
pub(crate) fn run() -> Result<()> {
    let pages = pages()?;
    let mut broken = Vec::new();
    files::check(&pages, &mut broken);
    arrows::check(&pages, &mut broken);
    unsafety::check(&pages, &mut broken)?;
    links::check(&pages, &mut broken);
    budgets::check(&pages, &mut broken);
    ensure!(broken.is_empty(), "tidy: {} broken rules\n  {}", broken.len(), broken.join("\n  "));
    println!("tidy: {} files, no rule broken", pages.len());
    Ok(())
}

/// All text files that git knows or would take.
fn pages() -> Result<Vec<Page>> {
    let list = shell::read(&mut command("git ls-files --cached --others --exclude-standard"))?;
    let mut pages = Vec::new();
    for path in list.lines() {
        let whole = root().join(path);
        // A file that was removed but not yet committed is still listed.
        if !whole.is_file() {
            continue;
        }
        let bytes = std::fs::read(&whole).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            pages.push(Page { path: path.to_owned(), text });
        }
    }
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pages)
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}
