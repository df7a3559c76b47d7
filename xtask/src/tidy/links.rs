//! Links in the pages: a link to a file of the repository leads to one, and no decision is left out of their list.

use std::path::Path;

use super::Page;
use crate::shell::root;

/// The list of decisions.
const DECISIONS: &str = "docs/decisions/README.md";

pub(super) fn check(pages: &[Page], broken: &mut Vec<String>) {
    decisions(pages, broken);
    for page in pages.iter().filter(|page| page.is_markdown()) {
        let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        for target in targets(&page.text) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            if !root().join(folder).join(file).exists() {
                broken.push(format!("{}: links to {file}, which is not there", page.path));
            }
        }
    }
}

fn decisions(pages: &[Page], broken: &mut Vec<String>) {
    let list = pages.iter().find(|page| page.path == DECISIONS).map(|page| page.text.as_str()).unwrap_or_default();
    for page in pages.iter().filter(|page| page.path != DECISIONS) {
        if let Some(name) = page.path.strip_prefix("docs/decisions/")
            && !list.contains(&format!("]({name})"))
        {
            broken.push(format!("{}: is not in {DECISIONS}", page.path));
        }
    }
}

/// What stands in the round brackets of `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}
