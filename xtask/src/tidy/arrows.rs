//! Who may use whom: crates by their manifests, rooms by what follows `crate::`.

use super::Page;
use super::scrub::code_only;

/// Our crates, and which of ours each may depend on. Dependencies for tests are free.
const CRATES: [(&str, &[&str]); 12] = [
    ("crates/pyro", &["pyro-engine"]),
    ("crates/engine", &["pyro-environment", "pyro-machine", "pyro-network", "pyro-seed", "pyro-store", "pyro-wire"]),
    ("crates/environment", &["pyro-store"]),
    ("crates/machine", &[]),
    ("crates/seed", &["pyro-environment", "pyro-store"]),
    ("crates/store", &[]),
    ("crates/network", &[]),
    ("crates/wire", &[]),
    ("crates/guest", &["pyro-wire"]),
    ("vm-tests", &[]),
    ("bench", &[]),
    ("xtask", &[]),
];

/// Folders that are rooms, and what of the same crate each may use besides itself.
///
/// `workspace` sees `machine` for the facts that `doctor` shows; it starts none. `progress` and `settings` are values
/// without work in them.
const ROOMS: [(&str, &[&str]); 5] = [
    (
        "crates/engine/src/workspace",
        &["supervisor", "environment", "machine", "store", "progress", "settings", "Settings"],
    ),
    ("crates/engine/src/supervisor", &["machine", "environment", "store", "progress", "settings", "Settings"]),
    ("crates/pyro/src/report", &["failure"]),
    ("crates/pyro/src/host", &["settings"]),
    ("crates/pyro/src/mcp", &["report", "failure", "settings"]),
];

pub(super) fn check(pages: &[Page], broken: &mut Vec<String>) {
    for page in pages {
        if let Some((_, may_use)) = CRATES.iter().find(|(folder, _)| page.path == format!("{folder}/Cargo.toml")) {
            crate_arrows(page, may_use, broken);
        }
        let room = ROOMS.iter().find(|(folder, _)| page.path.starts_with(&format!("{folder}/")));
        if let Some((folder, may_use)) = room
            && page.is_rust()
        {
            room_arrows(page, folder, may_use, broken);
        }
    }
}

fn crate_arrows(page: &Page, may_use: &[&str], broken: &mut Vec<String>) {
    let mut section = "";
    for line in page.text.lines() {
        if line.starts_with('[') {
            section = line.trim();
        }
        let name = line.split([' ', '=', '.']).next().unwrap_or_default();
        let ours = name.starts_with("pyro-") || name == "vm-tests" || name == "xtask";
        let counts = section.ends_with("dependencies]") && !section.contains("dev-dependencies");
        if ours && counts && !may_use.contains(&name) {
            broken.push(format!("{}: may not depend on {name}", page.path));
        }
    }
}

fn room_arrows(page: &Page, folder: &str, may_use: &[&str], broken: &mut Vec<String>) {
    let own = folder.rsplit('/').next().unwrap_or(folder);
    let code = code_only(&page.text);
    for name in used_from_crate(&code) {
        if name != own && !may_use.contains(&name) {
            broken.push(format!("{}: the room `{own}` may not use `crate::{name}`", page.path));
        }
    }
}

/// The first names after `crate::`, those inside `crate::{…}` too.
fn used_from_crate(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        // `pub(in crate::…)` and `$crate::` name no other room's work; a longer word is no keyword.
        if code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.push(word(rest)),
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The names at the top level of a `{…}` group whose opening bracket is gone.
fn first_names(group: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut expecting = true;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            _ if expecting && !letter.is_whitespace() => {
                names.push(word(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::{crate_arrows, room_arrows, used_from_crate};
    use crate::tidy::Page;

    #[track_caller]
    fn check(code: &str, expected: &[&str]) {
        assert_eq!(used_from_crate(code), expected);
    }

    #[test]
    fn names_after_crate_are_found() {
        check("use crate::store::atomic;", &["store"]);
        check("use crate::{machine::{spec, driver}, store};", &["machine", "store"]);
        check("fn x() { crate::progress::y(); mycrate::z() }", &["progress"]);
    }

    #[test]
    fn a_room_may_not_use_what_is_not_in_its_table() {
        let page = Page { path: "crates/engine/src/supervisor/a.rs".into(), text: "use crate::workspace::x;".into() };
        let mut broken = Vec::new();
        room_arrows(&page, "crates/engine/src/supervisor", &["store"], &mut broken);
        assert_eq!(broken, ["crates/engine/src/supervisor/a.rs: the room `supervisor` may not use `crate::workspace`"]);
    }

    #[test]
    fn a_crate_may_not_depend_on_what_is_not_in_its_table() {
        let text = "[dependencies]\npyro-engine = { workspace = true }\n[dev-dependencies]\npyro-wire = \"1\"\n";
        let page = Page { path: "crates/wire/Cargo.toml".into(), text: text.into() };
        let mut broken = Vec::new();
        crate_arrows(&page, &[], &mut broken);
        assert_eq!(broken, ["crates/wire/Cargo.toml: may not depend on pyro-engine"]);
    }
}
