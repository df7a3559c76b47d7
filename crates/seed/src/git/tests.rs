//! Checkouts of every shape, made by the host's git, and what that git says of the copy a guest would have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::fixture::{Place, noted, paths};
use super::super::notes::About;
use super::super::{SeedRequest, survey};
use super::Reach;

/// The copy's git agrees with the original's, is whole, and takes a commit of the caller.
fn check_same(place: &Place, original: &Path, copy: &Path) {
    for words in [&["status", "--porcelain"][..], &["log", "--format=%H %s"], &["branch", "--show-current"]] {
        assert_eq!(place.git_in(copy, words), place.git_in(original, words), "{words:?}");
    }
    place.git_in(copy, &["fsck", "--strict"]).unwrap();
    fs::write(copy.join("new file"), "new\n").unwrap();
    place.git_in(copy, &["add", "new file"]).unwrap();
    place.git_in(copy, &["commit", "-qm", "in the guest"]).unwrap();
    assert_eq!(place.git_in(copy, &["config", "core.bare"]).unwrap().trim(), "false");
}

#[test]
fn a_checkout_is_seen_as_its_user_sees_it() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.write("repo/tracked.log", "");
    place.write("repo/build/kept/x", "");
    place.git("repo", &["add", "-f", "tracked.log", "build/kept/x"]).unwrap();
    place.write("repo/a", "changed\n");
    place.write("repo/untracked", "");
    place.write("repo/ignored.log", "");
    place.write("repo/build/out", "");
    place.write("repo/.git/info/exclude", "excluded\n");
    place.write("repo/excluded", "");
    place.write("home/ignore", "*.mine\n");
    place.write("repo/x.mine", "");
    place.write("repo/.env", "TOKEN=1\n");
    fs::remove_file(place.path("repo/sub/b")).unwrap();
    fs::create_dir(place.path("repo/empty")).unwrap();

    let mut request = place.request("repo");
    request.git.excludes = Some(place.path("home/ignore"));
    let tree = survey(&request).unwrap();
    let expected =
        [".gitignore", "a", "build", "build/kept", "build/kept/x", "empty", "sub", "tracked.log", "untracked"];
    assert_eq!(paths(&tree), expected);
    assert_eq!(noted(&tree, About::SecretLeftOut), [(".env".to_owned(), "environment variables".to_owned())]);
    for (path, is_dir, expected) in
        [("x.log", false, true), ("tracked.log", false, false), ("build", true, false), ("build/out", false, true)]
    {
        assert_eq!(tree.leaves_out(path.as_bytes(), is_dir), expected, "{path}");
    }
    // The user's own file of rules is not in the guest, so what it hides must not be there either.
    let copy = place.lay_out(&tree);
    let status = place.git_in(&copy.path, &["status", "--porcelain"]).unwrap();
    assert_eq!(status, " M a\nA  build/kept/x\n D sub/b\nA  tracked.log\n?? untracked\n");
    place.git_in(&copy.path, &["fsck"]).unwrap();

    let all = survey(&SeedRequest { all: true, ..request.clone() }).unwrap();
    assert!(paths(&all).contains(&"build/out".to_owned()) && !paths(&all).contains(&".env".to_owned()));
    let secret = survey(&SeedRequest { secrets: true, ..request }).unwrap();
    assert!(paths(&secret).contains(&".env".to_owned()) && !paths(&secret).contains(&"ignored.log".to_owned()));
}

#[test]
fn a_tracked_secret_is_kept_and_named() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.write("repo/tests/key.pem", "-----BEGIN PRIVATE KEY-----\n");
    place.git("repo", &["add", "."]).unwrap();
    let tree = place.survey("repo");
    assert!(paths(&tree).contains(&"tests/key.pem".to_owned()));
    assert_eq!(tree.notes.count(About::SecretKept), 1);
}

#[test]
fn the_index_is_read_in_every_version() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.write("repo/build/x", "");
    place.write("repo/build/y", "");
    place.git("repo", &["add", "-f", "build/x"]).unwrap();
    let settings = [
        &["update-index", "--index-version", "4"][..],
        &["update-index", "--index-version", "2"],
        &["update-index", "--split-index"],
        &["update-index", "--untracked-cache"],
    ];
    for words in settings {
        place.git("repo", words).unwrap();
        place.write("repo/build/z", words.concat());
        place.git("repo", &["add", "-f", "build/z"]).unwrap();
        let tree = place.survey("repo");
        assert_eq!(tree.notes.count(About::IndexUnread), 0, "{words:?}");
        assert_eq!(paths(&tree), [".gitignore", "a", "build", "build/x", "build/z", "sub", "sub/b"], "{words:?}");
        let copy = place.lay_out(&tree);
        check_same(&place, &place.path("repo"), &copy.path);
    }
    place.write("repo/.git/index", "junk");
    assert_eq!(place.survey("repo").notes.count(About::IndexUnread), 1);
}

#[test]
fn the_configuration_fits_the_guest() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    for (key, value) in [
        ("remote.origin.url", "https://user:token@h.example/x.git"),
        ("http.https://h.example/.extraheader", "AUTHORIZATION: basic xyz"),
        ("url.https://secret@h.example/.insteadOf", "short:"),
        ("credential.helper", "!echo password=secret"),
        ("core.fsmonitor", "true"),
        ("commit.gpgsign", "true"),
    ] {
        place.git("repo", &["config", key, value]).unwrap();
    }
    place.write("repo/.git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(place.path("repo/.git/hooks/pre-commit"), PermissionsExt::from_mode(0o755)).unwrap();
    place.write("repo/.git/index.lock", "");
    place.write("repo/.git/objects/pack/tmp_pack_x", "");
    let tree = place.survey("repo");
    let copy = place.lay_out(&tree);
    let text = fs::read_to_string(copy.path.join(".git/config")).unwrap();
    for secret in ["token", "xyz", "secret", "fsmonitor", "gpgsign"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let value = |key: &str| place.git_in(&copy.path, &["config", "--file", ".git/config", key]).unwrap();
    assert_eq!(value("user.name"), "Some \"One\"\n");
    assert_eq!(value("user.email"), "one@x.example\n");
    assert_eq!(value("remote.origin.url"), "https://h.example/x.git\n");
    assert_eq!(tree.notes.count(About::HooksLeftOut), 1);
    assert_eq!(tree.notes.count(About::CredentialsLeftOut), 1);
    assert!(!copy.path.join(".git/index.lock").exists() && !copy.path.join(".git/objects/pack/tmp_pack_x").exists());
    check_same(&place, &place.path("repo"), &copy.path);

    // The caller's own name in the repository stays.
    place.git("repo", &["config", "user.name", "Own"]).unwrap();
    let all = survey(&SeedRequest { all: true, secrets: true, ..place.request("repo") }).unwrap();
    let copy = place.lay_out(&all);
    let text = fs::read_to_string(copy.path.join(".git/config")).unwrap();
    assert!(text.contains("token") && text.contains("name = Own") && !text.contains("Some"));
    assert!(copy.path.join(".git/hooks/pre-commit").exists());
}

#[test]
fn nothing_is_read_again_by_the_first_status() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    // A file whose content differs while size and time are the same shows whether git looks at the content.
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let set = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    set(&place.path("repo/a"));
    place.git("repo", &["update-index", "--refresh"]).unwrap();
    let copy = place.lay_out(&place.survey("repo"));
    fs::write(copy.path.join("a"), "b\n").unwrap();
    set(&copy.path.join("a"));
    assert_eq!(place.git_in(&copy.path, &["status", "--porcelain"]).unwrap(), "");
}

#[test]
fn a_worktree_becomes_a_repository_of_its_own() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.git("repo", &["worktree", "add", "-q", "-b", "side", "../tree"]).unwrap();
    place.git("repo", &["stash", "list"]).unwrap();
    place.write("tree/a", "side\n");
    place.git("tree", &["commit", "-qam", "on the side"]).unwrap();
    place.write("tree/b", "dirty\n");
    let tree = place.survey("tree");
    let copy = place.lay_out(&tree);
    assert!(copy.path.join(".git").is_dir() && !copy.path.join(".git/worktrees").exists());
    check_same(&place, &place.path("tree"), &copy.path);
    assert_eq!(tree.notes.count(About::RepositoryMadeWhole), 1);
    assert!(place.git_in(&copy.path, &["reflog"]).unwrap().contains("on the side"));

    // The main one has nothing that points at the other.
    let copy = place.lay_out(&place.survey("repo"));
    place.git_in(&copy.path, &["checkout", "-q", "side"]).unwrap();
}

#[test]
fn a_worktree_of_a_bare_repository_with_its_own_settings_is_whole() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.git("", &["clone", "-q", "--bare", "repo", "bare"]).unwrap();
    for words in [
        &["config", "extensions.worktreeConfig", "true"][..],
        &["config", "--worktree", "core.bare", "true"],
        &["config", "--local", "--unset", "core.bare"],
        &["worktree", "add", "-q", "../tree", "main"],
    ] {
        place.git("bare", words).unwrap();
    }
    place.git("tree", &["sparse-checkout", "set", "sub"]).unwrap();
    place.git("tree", &["config", "--worktree", "some.key", "value"]).unwrap();
    let copy = place.lay_out(&place.survey("tree"));
    assert_eq!(place.git_in(&copy.path, &["config", "some.key"]).unwrap(), "value\n");
    check_same(&place, &place.path("tree"), &copy.path);
}

#[test]
fn submodules_work_whether_they_or_their_parent_are_the_seed() {
    let place = Place::new();
    if place.repository("lib").is_none() {
        return;
    }
    place.repository("repo").unwrap();
    place.git("repo", &["submodule", "add", "-q", "../lib", "vendor/lib"]).unwrap();
    place.git("repo", &["commit", "-qm", "with a submodule"]).unwrap();
    place.write("repo/vendor/lib/a", "changed in the submodule\n");
    place.write("repo/vendor/lib/x.log", "");

    let tree = place.survey("repo");
    let copy = place.lay_out(&tree);
    assert!(!copy.path.join("vendor/lib/x.log").exists());
    assert_eq!(place.git_in(&copy.path.join("vendor/lib"), &["status", "--porcelain"]).unwrap(), " M a\n");
    check_same(&place, &place.path("repo"), &copy.path);
    place.git_in(&copy.path, &["submodule", "status"]).unwrap();

    let copy = place.lay_out(&place.survey("repo/vendor/lib"));
    assert!(copy.path.join(".git").is_dir());
    check_same(&place, &place.path("repo/vendor/lib"), &copy.path);

    place.git("repo", &["worktree", "add", "-q", "../tree"]).unwrap();
    place.git("tree", &["submodule", "update", "-q", "--init"]).unwrap();
    let copy = place.lay_out(&place.survey("tree"));
    check_same(&place, &place.path("tree/vendor/lib"), &copy.path.join("vendor/lib"));
    place.git_in(&copy.path, &["submodule", "status"]).unwrap();
}

#[test]
fn borrowed_objects_are_put_in() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.git("", &["clone", "-q", "--shared", "repo", "one"]).unwrap();
    place.write("one/a", "one\n");
    place.git("one", &["commit", "-qam", "one"]).unwrap();
    place.git("one", &["repack", "-q", "-d"]).unwrap();
    place.git("", &["clone", "-q", "--shared", "one", "two"]).unwrap();
    let tree = place.survey("two");
    assert_eq!(tree.notes.count(About::ObjectsBorrowed), 2);
    let copy = place.lay_out(&tree);
    fs::rename(place.path("repo"), place.path("elsewhere")).unwrap();
    assert!(!copy.path.join(".git/objects/info/alternates").exists());
    place.git_in(&copy.path, &["fsck", "--full"]).unwrap();

    let within = SeedRequest { reach: Reach::Within(vec![place.path("two")]), ..place.request("two") };
    let tree = survey(&within).unwrap();
    assert_eq!((tree.notes.count(About::ObjectsBorrowed), tree.notes.count(About::RepositoryNotFollowed)), (0, 1));
}

#[test]
fn a_repository_that_lies_elsewhere_is_followed_only_if_it_points_back_or_is_in_reach() {
    let place = Place::new();
    if place.repository("private").is_none() {
        return;
    }
    place.git("private", &["worktree", "add", "-q", "../tree"]).unwrap();
    // As if both had been unpacked from somewhere.
    place.write("hostile/.git", format!("gitdir: {}\n", place.path("private/.git").display()));
    place.write("copied/.git", format!("gitdir: {}\n", place.path("private/.git/worktrees/tree").display()));
    let near = |name: &str| SeedRequest { reach: Reach::Within(vec![place.path(name)]), ..place.request(name) };
    for name in ["hostile", "copied"] {
        let tree = survey(&near(name)).unwrap();
        assert_eq!((tree.entries.len(), tree.notes.count(About::RepositoryNotFollowed)), (0, 1), "{name}");
    }
    let tree = survey(&near("tree")).unwrap();
    assert_eq!(tree.notes.count(About::RepositoryMadeWhole), 1);
    assert_eq!(place.survey("hostile").notes.count(About::RepositoryMadeWhole), 1);

    // Nor does a file that git would take for the place of the rest.
    place.repository("liar").unwrap();
    place.write("liar/.git/commondir", place.path("private/.git").display().to_string());
    let tree = survey(&near("liar")).unwrap();
    assert_eq!(tree.notes.count(About::RepositoryNotFollowed), 1);
    assert!(tree.entries.iter().all(|entry| !entry.path.starts_with(b".git/")));
}

#[test]
fn a_part_of_a_repository_follows_its_rules() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.write("repo/sub/x.log", "");
    place.write("repo/sub/.gitignore", "/only-here\n");
    place.write("repo/sub/deep/only-here", "");
    place.write("repo/sub/deep/kept.log", "");
    place.write("repo/sub/deep/x.log", "");
    place.write("repo/sub/deep/build/x", "");
    place.git("repo", &["add", "-f", "sub/deep/kept.log"]).unwrap();
    let tree = place.survey("repo/sub/deep");
    assert_eq!(paths(&tree), ["kept.log", "only-here"]);
    assert_eq!(tree.notes.count(About::PartOfRepository), 1);
    assert!(tree.leaves_out(b"build/y", false) && tree.leaves_out(b"y.log", false) && !tree.leaves_out(b"y", false));

    // What the repository around ignores is no part of it, such as all of a home directory.
    place.write("repo/build/project/x.log", "");
    let tree = place.survey("repo/build/project");
    assert_eq!((paths(&tree), tree.notes.count(About::PartOfRepository)), (vec!["x.log".to_owned()], 0));
}

#[test]
fn a_repository_in_another_keeps_its_own_rules() {
    let place = Place::new();
    if place.repository("repo").is_none() {
        return;
    }
    place.repository("repo/inner").unwrap();
    place.write("repo/inner/.gitignore", "*.tmp\n");
    place.write("repo/inner/x.log", "");
    place.write("repo/inner/x.tmp", "");
    let tree = place.survey("repo");
    assert!(paths(&tree).contains(&"inner/x.log".to_owned()) && !paths(&tree).contains(&"inner/x.tmp".to_owned()));
    let copy = place.lay_out(&tree);
    check_same(&place, &place.path("repo/inner"), &copy.path.join("inner"));
}
