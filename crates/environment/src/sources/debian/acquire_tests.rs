//! Tests of [`super`] on an archive with a key of its own, served on the loopback.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use pyro_store::home::Home;
use vm_tests::archive::{Archive, Deb, ListForm, SigningKey, now};
use vm_tests::http::{Fault, Server};

use super::{AcquireError, Acquisition, Follow, ResolveError, Want, acquire, probe_reachable};
use crate::fetch::{FetchError, Fetcher, Patience};
use crate::package::Package;
use crate::progress::Progress;
use crate::settings::{DebianArchive, DebianSuite, ProxySettings};

const RELEASE: &str = "/debian/dists/bookworm/InRelease";
const DAY: u64 = 86_400;

struct Bed {
    server: Server,
    dir: tempfile::TempDir,
    home: Home,
    settings: DebianArchive,
    notes: Mutex<Vec<String>>,
}

/// Serves an archive; nothing is fetched yet.
fn bed(archive: &Archive) -> Bed {
    let server = Server::start();
    archive.serve(&server, "/debian");
    let dir = tempfile::tempdir().unwrap();
    let keyring = dir.path().join("keyring.gpg");
    std::fs::write(&keyring, archive.key.keyring()).unwrap();
    let settings = DebianArchive {
        mirror_url: server.url() + "/debian",
        security_url: server.url() + "/security",
        keyring_path: Some(keyring),
        suites: vec![DebianSuite::Release],
    };
    let home = Home::new(&dir.path().join("cache"), &dir.path().join("state"));
    Bed { server, dir, home, settings, notes: Mutex::default() }
}

fn archive() -> Archive {
    Archive::new("bookworm")
        .with(Deb::new("git", "1:2.39").field("Depends", "libc6 (>= 2), perl").file("usr/bin/git", 0o755, "git"))
        .with(Deb::new("perl", "5.36").field("Pre-Depends", "libc6"))
        .with(Deb::new("libc6", "2.36").field("Multi-Arch", "same"))
        .with(Deb::new("dpkg", "1.21").field("Essential", "yes"))
        .with(Deb::new("zsh", "5.9").field("Depends", "zsh-common"))
}

fn want(packages: &[&str]) -> Want {
    let packages = packages.iter().map(|name| (*name).to_owned()).collect();
    Want { release: "bookworm".to_owned(), packages, include_essential: true, follow: Follow::All }
}

fn fetcher() -> Fetcher {
    let patience = Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(1),
        idle_attempts_max: 2,
        first_pause: Duration::from_millis(5),
    };
    Fetcher::with_patience(&ProxySettings::default(), patience).unwrap()
}

impl Bed {
    async fn acquire(&self, packages: &[&str]) -> Result<Vec<Package>, AcquireError> {
        self.acquire_at(now(), packages).await
    }

    async fn acquire_at(&self, now: u64, packages: &[&str]) -> Result<Vec<Package>, AcquireError> {
        let report = |progress| {
            if let Progress::Note(note) = progress {
                self.notes.lock().unwrap().push(note);
            }
        };
        let fetcher = fetcher();
        let acquisition = Acquisition { home: &self.home, archive: &self.settings, fetcher: &fetcher, now };
        acquisition.run(&want(packages), &report).await
    }

    /// Files of the cache that are not locks, by their paths in it.
    fn kept(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![self.home.downloads_dir(), self.home.lists_dir()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { left.push(path) } else { found.push(path) }
            }
        }
        found
    }

    fn replace(&self, path: &str, change: impl Fn(Vec<u8>) -> Vec<u8>, archive: &Archive) {
        let content = archive.files().remove(path.strip_prefix("/debian").unwrap()).unwrap();
        self.server.put(path, change(content));
    }
}

fn names(packages: &[Package]) -> Vec<&str> {
    packages.iter().map(|package| package.name.as_str()).collect()
}

#[tokio::test]
async fn packages_come_verified_with_what_they_need() {
    let bed = bed(&archive());
    let packages = bed.acquire(&["git"]).await.unwrap();
    assert_eq!(names(&packages), ["dpkg", "libc6", "perl", "git"]);
    let git = &packages[3];
    assert_eq!((git.version.as_str(), git.architecture.as_str(), git.essential), ("1:2.39", "amd64", false));
    assert!(packages[0].essential);
    assert_eq!(git.file, bed.home.downloads_dir().join(&git.sha256));
    assert_eq!(vm_tests::archive::sha256(&std::fs::read(&git.file).unwrap()), git.sha256);
    assert_eq!(git.control[0], ("Package".to_owned(), "git".to_owned()));
    let description = ("Description".to_owned(), "a package of tests\n which does nothing".to_owned());
    assert!(git.control.contains(&description));
    // Four packages, the list and the release.
    assert_eq!(bed.kept().len(), 6);
    bed.acquire(&["git"]).await.unwrap();
    assert_eq!(bed.server.requests().len(), 6 + 1, "only the release is asked for again");
}

#[tokio::test]
async fn lists_come_in_other_forms_too() {
    for (by_hash, list_form) in [(false, ListForm::Xz), (true, ListForm::Gzip), (false, ListForm::Plain)] {
        let archive = Archive { by_hash, list_form, ..archive() };
        let bed = bed(&archive);
        assert_eq!(bed.acquire(&["perl"]).await.unwrap().len(), 3);
        let plain = format!("/debian/dists/bookworm/{}", archive.list_path());
        assert_eq!(bed.server.requests_for(&plain).len(), usize::from(!by_hash));
    }
    // By hash is said, but the mirror has no such directory.
    let archive = archive();
    let bed = bed(&archive);
    for path in archive.files().keys().filter(|path| path.contains("by-hash")) {
        bed.server.remove(&format!("/debian{path}"));
    }
    assert_eq!(bed.acquire(&["perl"]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn all_suites_are_used_and_the_latest_version_wins() {
    let archive = archive();
    let mut bed = bed(&archive);
    bed.settings.suites = vec![DebianSuite::Release, DebianSuite::Updates, DebianSuite::Security];
    let key = archive.key.clone();
    let security = Archive { key: key.clone(), ..Archive::new("bookworm-security") };
    security.with(Deb::new("git", "1:2.39+deb12u1")).serve(&bed.server, "/security");
    let missing = bed.acquire(&["git"]).await.unwrap_err();
    assert!(missing.to_string().contains("bookworm-updates/InRelease was answered with 404"), "{missing}");
    let updates = Archive { key, ..Archive::new("bookworm-updates") };
    updates.with(Deb::new("git", "1:2.38")).serve(&bed.server, "/debian");
    let packages = bed.acquire(&["git"]).await.unwrap();
    assert_eq!(names(&packages), ["dpkg", "git"]);
    assert_eq!(packages[1].version, "1:2.39+deb12u1");
    assert_eq!(bed.server.requests_for("/security/pool/main/g/git/git_2.39+deb12u1_amd64.deb").len(), 1);
}

#[tokio::test]
async fn only_the_kernel_is_followed_when_asked() {
    let archive = Archive::new("bookworm")
        .with(Deb::new("linux-image-cloud-amd64", "6").field("Depends", "linux-image-6-cloud-amd64 (= 6)"))
        .with(
            Deb::new("linux-image-6-cloud-amd64", "6").field("Depends", "kmod, initramfs-tools | linux-initramfs-tool"),
        )
        .with(Deb::new("dpkg", "1.21").field("Essential", "yes"));
    let bed = bed(&archive);
    let want = Want {
        include_essential: false,
        follow: Follow::OnlyPrefix("linux-image-"),
        ..want(&["linux-image-cloud-amd64"])
    };
    let packages = acquire(&bed.home, &bed.settings, &ProxySettings::default(), &want, &|_| {}).await.unwrap();
    assert_eq!(names(&packages), ["linux-image-6-cloud-amd64", "linux-image-cloud-amd64"]);
}

#[tokio::test]
async fn a_tampered_release_is_refused() {
    let archive = archive();
    let bed = bed(&archive);
    let tamper =
        |content: Vec<u8>| String::from_utf8(content).unwrap().replace("Label: Test", "Label: Evil").into_bytes();
    bed.replace(RELEASE, tamper, &archive);
    let Err(AcquireError::Signature { url, source }) = bed.acquire(&["git"]).await else { panic!("taken") };
    assert_eq!(url, bed.server.url() + RELEASE);
    assert!(source.to_string().contains("did not sign this text"), "{source}");
    assert!(bed.kept().is_empty());
}

#[tokio::test]
async fn another_key_an_expired_one_and_a_revoked_one_are_refused() {
    let archive = archive();
    for (keyring, words) in [
        (SigningKey::new().keyring(), "is not a trusted key"),
        (archive.key.clone().expired().keyring(), "has expired"),
        (archive.key.clone().revoked().keyring(), "was revoked"),
    ] {
        let bed = bed(&archive);
        std::fs::write(bed.dir.path().join("keyring.gpg"), keyring).unwrap();
        let Err(AcquireError::Signature { source, .. }) = bed.acquire(&["git"]).await else { panic!("taken") };
        assert!(source.to_string().contains(words), "{source}");
        assert!(bed.kept().is_empty());
    }
    // Debian's own keys have not signed it either.
    let mut bed = bed(&archive);
    bed.settings.keyring_path = None;
    assert!(matches!(bed.acquire(&["git"]).await, Err(AcquireError::Signature { .. })));
    bed.settings.keyring_path = Some(bed.dir.path().join("none.gpg"));
    assert!(matches!(bed.acquire(&["git"]).await, Err(AcquireError::KeyringFile { .. })));
    std::fs::write(bed.dir.path().join("none.gpg"), "no keys here").unwrap();
    assert!(matches!(bed.acquire(&["git"]).await, Err(AcquireError::Keyring { .. })));
}

#[tokio::test]
async fn a_tampered_list_is_refused() {
    for by_hash in [true, false] {
        let archive = Archive { by_hash, ..archive() };
        let bed = bed(&archive);
        let path =
            archive.files().into_keys().find(|path| path.contains(if by_hash { "by-hash" } else { ".xz" })).unwrap();
        let path = format!("/debian{path}");
        bed.replace(&path, |content| content.iter().map(|byte| byte ^ 1).collect(), &archive);
        let Err(AcquireError::Fetch(FetchError::Digest { url, .. })) = bed.acquire(&["git"]).await else {
            panic!("taken")
        };
        assert_eq!(url, bed.server.url() + &path);
        assert!(bed.kept().is_empty());
    }
}

#[tokio::test]
async fn a_tampered_package_is_refused_and_the_good_ones_stay() {
    let archive = archive();
    let bed = bed(&archive);
    let path = "/debian/pool/main/g/git/git_2.39_amd64.deb";
    bed.replace(path, |content| content.iter().map(|byte| byte ^ 1).collect(), &archive);
    let Err(AcquireError::Fetch(error @ FetchError::Digest { .. })) = bed.acquire(&["git"]).await else {
        panic!("taken")
    };
    assert!(error.to_string().starts_with(&(bed.server.url() + path)), "{error}");
    let good = archive.files();
    // Downloads that ran beside it were stopped: their parts are gone on with the next time.
    let whole = |path: &PathBuf| path.starts_with(bed.home.downloads_dir()) && path.extension().is_none();
    for path in bed.kept().into_iter().filter(whole) {
        assert!(good.values().any(|content| *content == std::fs::read(&path).unwrap()), "{}", path.display());
    }
    bed.replace(path, |content| content, &archive);
    bed.acquire(&["git"]).await.unwrap();
}

#[tokio::test]
async fn a_file_of_the_cache_that_was_changed_is_fetched_again() {
    let bed = bed(&archive());
    let packages = bed.acquire(&["git"]).await.unwrap();
    let size = usize::try_from(packages[3].size_bytes).unwrap();
    std::fs::write(&packages[3].file, vec![0; size]).unwrap();
    let again = bed.acquire(&["git"]).await.unwrap();
    assert_eq!(again, packages);
    assert_eq!(vm_tests::archive::sha256(&std::fs::read(&again[3].file).unwrap()), again[3].sha256);
}

#[tokio::test]
async fn a_release_past_its_end_is_refused() {
    let archive = Archive { valid_until: Some(now() + DAY), ..archive() };
    let bed = bed(&archive);
    bed.acquire(&["git"]).await.unwrap();
    let error = bed.acquire_at(now() + 2 * DAY, &["git"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Expired { .. }), "{error}");
}

#[tokio::test]
async fn the_release_of_another_suite_is_refused() {
    let archive = archive();
    let bed = bed(&archive);
    let other = Archive { suite: "trixie".to_owned(), ..archive };
    bed.server.put(RELEASE, other.files().remove("/dists/trixie/InRelease").unwrap());
    let error = bed.acquire(&["git"]).await.unwrap_err();
    assert!(error.to_string().ends_with("is the release of trixie instead of bookworm"), "{error}");
}

#[tokio::test]
async fn an_older_release_does_not_take_back_a_newer_one() {
    let older = Archive { date: now() - 5 * 3600, ..archive() };
    let newer = Archive { date: now(), ..older.clone() }.with(Deb::new("git", "1:2.40"));
    let bed = bed(&newer);
    assert_eq!(bed.acquire(&["git"]).await.unwrap()[1].version, "1:2.40");
    bed.server.put(RELEASE, older.files().remove("/dists/bookworm/InRelease").unwrap());
    assert_eq!(bed.acquire(&["git"]).await.unwrap()[1].version, "1:2.40");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let bed = bed(&archive());
    let error = bed.acquire(&["zsh"]).await.unwrap_err();
    assert_eq!(error.to_string(), "the archive has nothing for `zsh-common`, wanted by zsh");
    let error = bed.acquire(&["fish"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Resolve(ResolveError::UnknownPackage { .. })), "{error}");
}

#[tokio::test]
async fn offline_with_everything_kept_works_and_is_said() {
    let bed = bed(&Archive { valid_until: Some(now() + DAY), ..archive() });
    let online = bed.acquire(&["git"]).await.unwrap();
    bed.server.refuse(true);
    // Past its end, too: there is nothing newer.
    let offline = bed.acquire_at(now() + 2 * DAY, &["git"]).await.unwrap();
    assert_eq!(offline, online);
    let notes = std::mem::take(&mut *bed.notes.lock().unwrap());
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].starts_with("the archive of bookworm cannot be reached: using its package list of 20"),
        "{notes:?}"
    );
    let error = bed.acquire(&["git", "libc6", "zsh"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Resolve(_)), "{error}");
}

#[tokio::test]
async fn offline_without_is_one_clear_error() {
    let bed = bed(&archive());
    bed.server.refuse(true);
    let error = bed.acquire(&["git"]).await.unwrap_err();
    let words = "the archive of bookworm cannot be reached, and no package lists are kept from an earlier time";
    assert_eq!(error.to_string(), words);
    bed.server.refuse(false);
    bed.acquire(&["perl"]).await.unwrap();
    bed.server.refuse(true);
    // The lists are here, the package is not.
    let error = bed.acquire(&["git"]).await.unwrap_err();
    assert!(matches!(error, AcquireError::Fetch(FetchError::Unreachable { .. })), "{error}");
}

#[tokio::test]
async fn kept_lists_that_were_changed_are_not_trusted() {
    let bed = bed(&archive());
    bed.acquire(&["git"]).await.unwrap();
    bed.server.refuse(true);
    for path in bed.kept().into_iter().filter(|path| path.starts_with(bed.home.lists_dir())) {
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, good.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
        let error = bed.acquire(&["git"]).await.unwrap_err();
        assert!(matches!(error, AcquireError::Offline { .. }), "{error}");
        std::fs::write(&path, good).unwrap();
    }
    bed.acquire(&["git"]).await.unwrap();
}

#[tokio::test]
async fn a_new_release_replaces_the_kept_lists() {
    let archive = archive();
    let bed = bed(&archive);
    bed.acquire(&["git"]).await.unwrap();
    let newer = Archive { date: now() + 60, ..archive }.with(Deb::new("git", "1:2.40"));
    newer.serve(&bed.server, "/debian");
    assert_eq!(bed.acquire(&["git"]).await.unwrap()[1].version, "1:2.40");
    let lists = bed.kept().into_iter().filter(|path| path.starts_with(bed.home.lists_dir())).count();
    assert_eq!(lists, 2, "the release and its list");
}

#[tokio::test]
async fn two_at_once_fetch_everything_once() {
    let bed = bed(&archive());
    let (first, second) = tokio::join!(bed.acquire(&["git"]), bed.acquire(&["git"]));
    assert_eq!(first.unwrap(), second.unwrap());
    let pool = bed.server.requests().iter().filter(|request| request.target.contains("/pool/")).count();
    assert_eq!(pool, 4);
    assert_eq!(bed.kept().len(), 6);
}

#[tokio::test]
async fn a_dropped_acquisition_is_gone_on_with() {
    let archive = archive();
    let bed = bed(&archive);
    let path = "/debian/pool/main/g/git/git_2.39_amd64.deb";
    bed.server.fail(path, Fault::Stall(Duration::from_secs(5)));
    let dropped = tokio::time::timeout(Duration::from_millis(700), bed.acquire(&["git"])).await;
    assert!(dropped.is_err());
    bed.acquire(&["git"]).await.unwrap();
    assert!(bed.server.requests_for(path).last().unwrap().range.is_some());
    assert_eq!(bed.kept().len(), 6);
}

#[tokio::test]
async fn a_proxy_serves_the_whole_way() {
    let archive = archive();
    let mut bed = bed(&archive);
    bed.settings.mirror_url = "http://archive.invalid/debian/".to_owned();
    let proxy = ProxySettings { http: Some(bed.server.url()), ..ProxySettings::default() };
    let packages = acquire(&bed.home, &bed.settings, &proxy, &want(&["git"]), &|_| {}).await.unwrap();
    assert_eq!(packages.len(), 4);
    assert!(bed.server.requests().iter().all(|request| request.target.starts_with("http://archive.invalid/debian/")));
    probe_reachable(&bed.settings, &proxy, "bookworm").await.unwrap();
    assert!(probe_reachable(&bed.settings, &proxy, "sid").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn progress_names_stages_and_ends_at_the_total() {
    let bed = bed(&archive());
    let seen = Mutex::new(Vec::new());
    let report = |progress| seen.lock().unwrap().push(progress);
    acquire(&bed.home, &bed.settings, &ProxySettings::default(), &want(&["git"]), &report).await.unwrap();
    let seen = seen.into_inner().unwrap();
    let stages: Vec<_> = seen
        .iter()
        .filter_map(|progress| match progress {
            Progress::Stage { name, total, .. } => Some((*name, *total)),
            _ => None,
        })
        .collect();
    let total = stages[1].1;
    assert_eq!((stages[0], stages[1].0), (("fetch lists", None), "download packages"));
    assert_eq!(seen.last(), total.map(Progress::Done).as_ref());
    assert!(seen.contains(&Progress::Item("git".to_owned())));
}
