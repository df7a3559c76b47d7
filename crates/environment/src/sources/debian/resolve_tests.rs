//! Tests of [`super`]: small archives written as `name version; field: value; …`.

use proptest::prelude::*;

use super::super::index;
use super::{Follow, Request, ResolveError, Universe};

fn list(packages: &[&str]) -> String {
    packages.iter().map(|package| stanza(package)).collect()
}

fn stanza(package: &str) -> String {
    let mut parts = package.split(';').map(str::trim);
    let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
    let fields: String = parts.map(|field| format!("{field}\n")).collect();
    let sha256 = "a".repeat(64);
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {sha256}\n{fields}\n"
    )
}

fn resolve_all(lists: &[&[&str]], request: &Request<'_>) -> Result<Vec<String>, ResolveError> {
    let texts: Vec<String> = lists.iter().map(|packages| list(packages)).collect();
    let records: Vec<_> = texts.iter().map(|text| index::parse(text).unwrap()).collect();
    let chosen = Universe::new(&records)?.resolve(request)?;
    Ok(chosen.iter().map(|one| format!("{} {}", one.record.name, one.record.version)).collect())
}

fn resolve(packages: &[&str], wanted: &[&str]) -> Result<Vec<String>, ResolveError> {
    resolve_all(&[packages], &Request { packages: wanted, include_essential: false, follow: Follow::All })
}

#[track_caller]
fn check(packages: &[&str], wanted: &[&str], expected: &[&str]) {
    assert_eq!(resolve(packages, wanted).unwrap(), expected);
}

#[test]
fn dependencies_come_first() {
    check(&["a 1; Depends: b, c (>= 2)", "b 1; Pre-Depends: c", "c 2", "d 1"], &["a"], &["c 2", "b 1", "a 1"]);
}

#[test]
fn in_a_circle_what_is_needed_before_unpacking_comes_first() {
    check(&["a 1; Depends: b", "b 1; Pre-Depends: a"], &["a"], &["a 1", "b 1"]);
    check(&["a 1; Pre-Depends: b", "b 1; Depends: a"], &["a"], &["b 1", "a 1"]);
}

#[test]
fn essential_and_required_packages_are_wanted_always_but_recommended_ones_never() {
    let packages =
        ["a 1; Recommends: r", "e 1; Essential: yes", "q 1; Priority: required", "o 1; Priority: important", "r 1"];
    let request = Request { packages: &["a"], include_essential: true, follow: Follow::All };
    assert_eq!(resolve_all(&[&packages], &request).unwrap(), ["a 1", "e 1", "q 1"]);
}

#[test]
fn the_latest_version_of_any_suite_wins() {
    let request = Request { packages: &["a"], include_essential: false, follow: Follow::All };
    let lists: [&[&str]; 3] = [&["a 1; Depends: b", "b 1-1+deb12u1"], &["a 1"], &["b 1-1+deb12u2", "a 1~rc"]];
    assert_eq!(resolve_all(&lists, &request).unwrap(), ["b 1-1+deb12u2", "a 1"]);
}

#[test]
fn the_first_alternative_that_can_be_had_is_taken() {
    check(&["a 1; Depends: gone | b | c", "b 1", "c 1"], &["a"], &["b 1", "a 1"]);
    check(&["a 1; Depends: b (>= 2) | c", "b 1", "c 1"], &["a"], &["c 1", "a 1"]);
}

#[test]
fn an_alternative_that_is_chosen_anyway_is_enough() {
    check(&["a 1; Depends: b | c, d", "b 1", "c 1", "d 1; Depends: c"], &["a"], &["c 1", "d 1", "a 1"]);
}

#[test]
fn an_alternative_that_conflicts_is_passed_over() {
    check(&["a 1; Depends: b | c; Conflicts: b", "b 1", "c 1"], &["a"], &["c 1", "a 1"]);
    check(&["a 1; Depends: mta", "b 1; Provides: mta; Breaks: a", "c 1; Provides: mta"], &["a"], &["c 1", "a 1"]);
}

#[test]
fn virtual_packages_are_provided() {
    check(
        &["a 1; Depends: awk", "mawk 1; Provides: awk; Priority: required", "gawk 1; Provides: awk"],
        &["a"],
        &["mawk 1", "a 1"],
    );
    check(&["a 1; Depends: v (>= 2)", "b 9; Provides: v", "c 1; Provides: v (= 2)"], &["a"], &["c 1", "a 1"]);
    check(&["b 9; Provides: v (= 1), w"], &["w"], &["b 9"]);
    let error = resolve(&["a 1; Depends: v (>= 2)", "b 9; Provides: v, v (= 1.9)"], &["a"]).unwrap_err();
    assert!(matches!(error, ResolveError::Unmet { .. }), "{error}");
}

#[test]
fn architecture_qualifiers_are_understood() {
    check(
        &["a 1; Depends: p:any, q:amd64, r:native", "p 1; Multi-Arch: allowed", "q 1", "r 1"],
        &["a"],
        &["p 1", "q 1", "r 1", "a 1"],
    );
    assert!(resolve(&["a 1; Depends: p:any", "p 1"], &["a"]).is_err());
    assert!(resolve(&["a 1; Depends: p:i386", "p 1"], &["a"]).is_err());
}

#[test]
fn what_is_missing_is_named_with_the_chain_that_wants_it() {
    let error =
        resolve(&["a 1; Depends: b", "b 1; Depends: c", "c 1; Depends: x (>= 3) | y", "x 2"], &["a"]).unwrap_err();
    assert_eq!(error.to_string(), "the archive has nothing for `x (>= 3) | y`, wanted by c, wanted by b, wanted by a");
    assert_eq!(resolve(&["a 1"], &["zsh"]).unwrap_err().to_string(), "the archive has no package zsh");
}

#[test]
fn conflicts_are_named_with_both_chains() {
    let packages = ["a 1; Depends: b, c", "b 1; Conflicts: v (<< 2)", "c 1; Provides: v (= 1)"];
    let error = resolve(&packages, &["a"]).unwrap_err();
    assert_eq!(error.to_string(), "b, wanted by a conflicts with c, wanted by a (`v (<< 2)`)");
    check(&["a 1; Conflicts: v; Provides: v; Breaks: b (<< 2)", "b 2"], &["a", "b"], &["a 1", "b 2"]);
    check(&["a 1; Conflicts: v (<< 2)", "b 1; Provides: v"], &["a", "b"], &["a 1", "b 1"]);
}

#[test]
fn only_some_dependencies_can_be_followed() {
    let packages = [
        "linux-image-cloud-amd64 6; Depends: linux-image-6-cloud-amd64 (= 6)",
        "linux-image-6-cloud-amd64 6; Depends: kmod, gone; Conflicts: linux-image-cloud-amd64",
        "kmod 1",
    ];
    let follow = Follow::OnlyPrefix("linux-image-");
    let request = Request { packages: &["linux-image-cloud-amd64"], include_essential: false, follow };
    assert_eq!(
        resolve_all(&[&packages], &request).unwrap(),
        ["linux-image-6-cloud-amd64 6", "linux-image-cloud-amd64 6"]
    );
}

#[test]
fn a_dependency_that_is_none_is_named() {
    let error = resolve(&["a 1; Depends: b [amd64]"], &["a"]).unwrap_err();
    assert_eq!(error.to_string(), "package a, field Depends");
    assert!(matches!(resolve(&["a 1; Provides: !"], &["a"]), Err(ResolveError::Malformed { field: "Provides", .. })));
}

fn any_package() -> impl Strategy<Value = String> {
    let name = || "[a-e]";
    let relation =
        move || (name(), "( \\((<<|<=|=|>=|>>) [1-3]\\))?").prop_map(|(name, constraint)| name + &constraint);
    let clause = move || proptest::collection::vec(relation(), 1..3).prop_map(|relations| relations.join(" | "));
    let field = ("(Depends|Pre-Depends)", clause()).prop_map(|(field, clause)| format!("; {field}: {clause}"));
    let other =
        ("(Conflicts|Breaks|Provides)", relation()).prop_map(|(field, relation)| format!("; {field}: {relation}"));
    (name(), "[1-3]", proptest::option::of(field), proptest::option::of(other), "(; Essential: yes)?").prop_map(
        |(name, version, field, other, essential)| {
            format!("{name} {version}{}{}{essential}", field.unwrap_or_default(), other.unwrap_or_default())
        },
    )
}

proptest! {
    #[test]
    fn what_resolves_is_complete_and_without_conflict(packages in proptest::collection::vec(any_package(), 1..9), wanted in "[a-e]") {
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        let text = list(&packages);
        let records = index::parse(&text).unwrap();
        let universe = Universe::new(&[records]).unwrap();
        let request = Request { packages: &[&wanted], include_essential: true, follow: Follow::All };
        let Ok(chosen) = universe.resolve(&request) else { return Ok(()) };
        for one in &chosen {
            for clause in super::clauses(&one.record, "Depends", one.record.depends).unwrap() {
                prop_assert!(clause.iter().any(|relation| chosen.iter().any(|other| super::meets(&other.record, relation))));
            }
            for other in &chosen {
                prop_assert!(super::excludes(&one.record, &other.record).unwrap().is_none());
            }
        }
    }
}
