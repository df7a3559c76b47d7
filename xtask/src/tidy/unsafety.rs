//! The unsafe ratchet: which files may hold unsafe code, how much, and that it only becomes less.

use anyhow::{Context, Result};

use super::Page;
use super::scrub::code_only;
use crate::shell::root;

/// `<count> <path>` a line; the table is changed by hand, in the commit that changes the count.
const TABLE: &str = "xtask/unsafe-ratchet.txt";

pub(super) fn check(pages: &[Page], broken: &mut Vec<String>) -> Result<()> {
    let table = std::fs::read_to_string(root().join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
    let allowed = entries(&table)?;
    for page in pages.iter().filter(|page| page.is_rust()) {
        let code = code_only(&page.text);
        let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let count = words.filter(|word| *word == "unsafe").count();
        let limit = allowed.iter().find(|(_, path)| *path == page.path).map_or(0, |(limit, _)| *limit);
        if count > limit {
            broken.push(format!("{}: {count} times unsafe, {limit} in {TABLE}", page.path));
        } else if count < limit {
            broken.push(format!("{}: {count} times unsafe: lower its {limit} in {TABLE}", page.path));
        }
        if count > 0 && !page.text.contains("// UNSAFETY:") {
            broken.push(format!("{}: holds unsafe code without `// UNSAFETY:` and why", page.path));
        }
    }
    for (_, path) in allowed {
        if !pages.iter().any(|page| page.path == path) {
            broken.push(format!("{TABLE}: {path} is gone: remove its line"));
        }
    }
    Ok(())
}

fn entries(table: &str) -> Result<Vec<(usize, &str)>> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (count, path) = line.split_once(' ').with_context(|| format!("{TABLE}: cannot read `{line}`"))?;
            Ok((count.parse().with_context(|| format!("{TABLE}: cannot read `{line}`"))?, path))
        })
        .collect()
}
