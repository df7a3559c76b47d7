//! Who may use whom: crates by their manifests, rooms by what follows `crate::` and by which of our crates they name.

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

/// Folders that are rooms, and what of the same crate, or which of our crates, each may use besides itself.
///
/// What a crate shows of another as `crate::name` and that crate's own `pyro_name` are one name here. `workspace` sees
/// `machine` for the facts that `doctor` shows; it starts none. `progress` and `settings` are values without work in them.
const ROOMS: [(&str, &[&str]); 5] = [
    (
        "crates/engine/src/workspace",
        &[
            "supervisor",
            "environment",
            "machine",
            "network",
            "seed",
            "store",
            "wire",
            "progress",
            "settings",
            "Settings",
        ],
    ),
    ("crates/engine/src/supervisor", &["machine", "network", "store", "wire", "progress"]),
    ("crates/pyro/src/report", &["engine", "failure"]),
    ("crates/pyro/src/host", &["engine", "settings"]),
    ("crates/pyro/src/mcp", &["engine", "report", "failure", "settings"]),
];

pub(super) fn check(pages: &[Page], broken: &mut Vec<String>) {
    for page in pages {
        match CRATES.iter().find(|(folder, _)| page.path == format!("{folder}/Cargo.toml")) {
            Some((_, may_use)) => crate_arrows(page, may_use, broken),
            None if page.path.starts_with("crates/") && page.path.ends_with("/Cargo.toml") => {
                broken.push(format!("{}: no row says which of our crates it may depend on", page.path));
            }
            None => {}
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
    for name in used(&code) {
        if name != own && !may_use.contains(&name) {
            broken.push(format!("{}: the room `{own}` may not use `{name}`", page.path));
        }
    }
}

/// What a file uses of its crate and of our other crates, each once.
fn used(code: &str) -> Vec<&str> {
    let mut names = used_from_crate(code);
    names.extend(used_crates(code));
    names.sort_unstable();
    names.dedup();
    names
}

/// Our other crates, by the names without `pyro_`.
fn used_crates(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("pyro_") {
        let rest = &code[at + found.len()..];
        let name = word(rest);
        if !continues_word(&code[..at]) && rest[name.len()..].starts_with("::") {
            names.push(name);
        }
    }
    names
}

fn continues_word(before: &str) -> bool {
    before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
}

/// The first names after `crate::`, those inside `crate::{…}` too.
fn used_from_crate(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        // `pub(in crate::…)` and `$crate::` name no other room's work; a longer word is no keyword.
        if continues_word(&code[..at]) || code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.push(word(rest)),
        }
    }
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
    use super::{check as check_all, crate_arrows, room_arrows, used};
    use crate::tidy::Page;

    #[track_caller]
    fn check(code: &str, expected: &[&str]) {
        assert_eq!(used(code), expected);
    }

    #[test]
    fn names_after_crate_are_found() {
        check("use crate::store::atomic;", &["store"]);
        check("use crate::{machine::{spec, driver}, store};", &["machine", "store"]);
        check("fn x() { crate::progress::y(); mycrate::z() }", &["progress"]);
    }

    #[test]
    fn crates_of_ours_are_found() {
        check("use pyro_wire::frame; use crate::store::x; fn y() { pyro_seed::z() }", &["seed", "store", "wire"]);
        check("let pyro_version = 1; my_pyro_wire::x()", &[]);
    }

    #[test]
    fn a_room_may_not_use_what_is_not_in_its_table() {
        let page = Page { path: "crates/engine/src/supervisor/a.rs".into(), text: "use crate::workspace::x;".into() };
        let mut broken = Vec::new();
        room_arrows(&page, "crates/engine/src/supervisor", &["store"], &mut broken);
        assert_eq!(broken, ["crates/engine/src/supervisor/a.rs: the room `supervisor` may not use `workspace`"]);
    }

    #[test]
    fn a_crate_without_a_row_is_told() {
        let page = Page { path: "crates/new/Cargo.toml".into(), text: String::new() };
        let mut broken = Vec::new();
        check_all(&[page], &mut broken);
        assert_eq!(broken, ["crates/new/Cargo.toml: no row says which of our crates it may depend on"]);
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
