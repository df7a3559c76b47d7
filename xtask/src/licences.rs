//! Dependencies: where they come from and under which licence, by the lists in `deny.toml`. cargo-deny checks more
//! (advisories, duplicates) and is run as well when it is installed.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::shell::{self, command, root};

/// Checks all packages that a build for our target uses.
pub(crate) fn run() -> Result<()> {
    let rules = std::fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let licences = string_list(&rules, "allow")?;
    let registries = string_list(&rules, "allow-registry")?;
    let mut metadata = command("cargo metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu");
    let metadata: Value = serde_json::from_str(&shell::read(&mut metadata)?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut bad = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some(source) = package["source"].as_str() {
            let from = source.trim_start_matches("registry+");
            if !registries.contains(&from) {
                bad.push(format!("{name} comes from {source}"));
            }
        }
        match package["license"].as_str() {
            Some(licence) if allowed(licence, &licences)? => {}
            Some(licence) => bad.push(format!("{name} has licence {licence}")),
            None => bad.push(format!("{name} states no licence")),
        }
    }
    ensure!(bad.is_empty(), "dependencies that deny.toml does not let in:\n  {}", bad.join("\n  "));
    println!("licences and sources: {} packages", packages.len());
    if shell::succeeds("cargo deny --version") {
        shell::run(&mut command("cargo deny check bans licenses sources"))?;
    }
    Ok(())
}

/// The strings of the array `key = [ … ]` in a TOML file as plain as ours.
fn string_list<'a>(toml: &'a str, key: &str) -> Result<Vec<&'a str>> {
    let opening = format!("\n{key} = [");
    let start = toml.find(&opening).with_context(|| format!("deny.toml has no list {key}"))? + opening.len();
    let end = toml[start..].find(']').context("the list does not end")? + start;
    Ok(toml[start..end].split('"').skip(1).step_by(2).collect())
}

/// Whether an SPDX expression can be met with `licences`.
fn allowed(expression: &str, licences: &[&str]) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let result = any_of(&mut rest, licences)?;
    ensure!(rest.is_empty(), "cannot read the licence `{expression}`");
    Ok(result)
}

fn any_of(words: &mut &[&str], licences: &[&str]) -> Result<bool> {
    let mut result = all_of(words, licences)?;
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        result |= all_of(words, licences)?;
    }
    Ok(result)
}

fn all_of(words: &mut &[&str], licences: &[&str]) -> Result<bool> {
    let mut result = one(words, licences)?;
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        result &= one(words, licences)?;
    }
    Ok(result)
}

fn one(words: &mut &[&str], licences: &[&str]) -> Result<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any_of(words, licences)?;
            ensure!(words.first() == Some(&")"), "a licence expression lacks its closing bracket");
            *words = &words[1..];
            Ok(result)
        }
        [licence, "WITH", exception, rest @ ..] => {
            let both = format!("{licence} WITH {exception}");
            *words = rest;
            Ok(licences.contains(&both.as_str()))
        }
        [licence, rest @ ..] => {
            *words = rest;
            Ok(licences.contains(licence))
        }
        [] => bail!("a licence expression ends too early"),
    }
}

#[cfg(test)]
mod tests {
    use super::{allowed, string_list};

    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let licences = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
        assert_eq!(allowed(expression, &licences).unwrap(), expected, "{expression}");
    }

    #[test]
    fn expressions_are_met_or_not() {
        check("MIT", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0 AND MIT", false);
        check("(MIT OR GPL-3.0) AND Apache-2.0", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("GPL-2.0 WITH Classpath-exception-2.0", false);
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(string_list("\nallow = [\n  \"a\",\n  \"b c\"]\n", "allow").unwrap(), ["a", "b c"]);
    }
}
