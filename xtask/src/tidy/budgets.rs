//! Budgets that grow unseen: the dependencies, and the page a newcomer reads first.

use super::Page;

/// Packages in Cargo.lock, ours and the ones only tests use among them.
const PACKAGES_MAX: usize = 350;

/// Lines of the architecture page.
const ARCHITECTURE_LINES_MAX: usize = 300;

pub(super) fn check(pages: &[Page], broken: &mut Vec<String>) {
    for page in pages {
        let (count, limit, of) = match page.path.as_str() {
            "Cargo.lock" => (page.text.matches("\n[[package]]").count(), PACKAGES_MAX, "packages"),
            "ARCHITECTURE.md" => (page.text.lines().count(), ARCHITECTURE_LINES_MAX, "lines"),
            _ => continue,
        };
        if count > limit {
            broken.push(format!("{}: {count} {of}, at most {limit}", page.path));
        }
    }
}
