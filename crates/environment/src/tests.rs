//! The door, on a cache in a temporary directory and an archive of the test's own. The machine that would configure the
//! packages is stood in for: what it does is tested with real guests elsewhere.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pyro_store::hold::Hold;
use pyro_store::home::Home;
use vm_tests::archive::{Archive, Deb};
use vm_tests::http::Server;

use super::catalog::Catalog;
use super::prune::STALE_AFTER;
use super::{
    EnvironmentError, Environments, FinishError, FinishJob, Finisher, InstalledState, PruneOptions, PrunedKind, Pull,
};
use crate::progress::{Progress, Reporter};
use crate::settings::{CustomKernel, DebianArchive, DebianSuite, EnvironmentSettings, ProxySettings};

const NAME: &str = "debian:12-base";

struct Fixture {
    dir: tempfile::TempDir,
    _server: Server,
    environments: Environments,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let packages = Catalog::builtin().find(NAME).unwrap().packages.clone();
    let archive = packages.iter().fold(Archive::new("bookworm"), |archive, name| {
        let deb = Deb::new(name, "1").field("Description", "x").file(&format!("usr/bin/{name}"), 0o755, name.as_str());
        archive.with(deb.script("postinst", "#!/bin/sh\n"))
    });
    archive.serve(&server, "");
    std::fs::write(dir.path().join("keyring"), archive.key.keyring()).unwrap();
    std::fs::write(dir.path().join("vmlinux"), b"\x7fELF Linux version 6.6.6 (x)").unwrap();
    let settings = EnvironmentSettings {
        kernel: Some(CustomKernel { image: dir.path().join("vmlinux"), modules_dir: None }),
        catalog: super::catalog::Catalog::builtin(),
        debian: DebianArchive {
            mirror_url: server.url(),
            security_url: server.url(),
            keyring_path: Some(dir.path().join("keyring")),
            suites: vec![DebianSuite::Release],
        },
        proxy: ProxySettings::default(),
        agent: b"agent",
        pyro_version: "0.0.0",
    };
    let home = Home::new(&dir.path().join("cache"), &dir.path().join("state"));
    Fixture { environments: Environments::new(home, &settings), _server: server, dir }
}

/// Counts its calls, and answers as it was told.
struct StandIn {
    calls: AtomicU32,
    takes: Duration,
    fails: bool,
}

fn good() -> StandIn {
    StandIn { calls: AtomicU32::new(0), takes: Duration::ZERO, fails: false }
}

impl Finisher for StandIn {
    fn finish<'a>(
        &'a self,
        job: FinishJob,
        report: Reporter<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), FinishError>> + Send + 'a>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            assert!(job.rootfs.exists() && job.kernel.initramfs.exists() && job.kernel.release == "6.6.6");
            report(Progress::Done(1));
            tokio::time::sleep(self.takes).await;
            match self.fails {
                true => Err(FinishError::Script { code: 1, output_tail: String::new() }),
                false => Ok(()),
            }
        })
    }
}

impl Fixture {
    async fn pull(&self, force: bool, finisher: &StandIn) -> Result<super::Pulled, EnvironmentError> {
        self.environments.pull(NAME, Pull { force, finisher }, &|_| {}).await
    }

    fn state(&self) -> InstalledState {
        self.environments.list().unwrap().into_iter().find(|summary| summary.name == NAME).unwrap().installed
    }

    fn staged(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("cache/staging")).map_or(0, Iterator::count)
    }
}

fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn an_environment_is_pulled_used_damaged_healed_and_removed() {
    let fixture = fixture();
    assert_eq!(fixture.state(), InstalledState::No);
    assert!(matches!(fixture.environments.open(NAME), Err(EnvironmentError::NotInstalled { .. })));
    let unknown = fixture.environments.open("debian:11").unwrap_err();
    assert!(matches!(unknown, EnvironmentError::Unknown { known, .. } if known.contains(&NAME.to_owned())));

    let pulled = fixture.pull(false, &good()).await.unwrap();
    assert!(pulled.fresh && fixture.staged() == 0);
    assert!(matches!(fixture.state(), InstalledState::Yes { .. }));
    let opened = fixture.environments.open(NAME).unwrap();
    assert_eq!(opened.digest, pulled.environment.digest);
    let rootfs = opened.rootfs.clone();
    drop(pulled);
    assert!(matches!(fixture.environments.remove(NAME), Err(EnvironmentError::InUse { .. })));
    assert!(matches!(fixture.pull(true, &good()).await, Err(EnvironmentError::InUse { .. })));
    drop(opened);
    fixture.environments.verify(NAME).unwrap();
    let details = fixture.environments.inspect(NAME).unwrap();
    assert!(details.record.packages.iter().any(|package| package.name == "apt" && package.sha256.len() == 64));
    assert!(!fixture.pull(false, &good()).await.unwrap().fresh);

    overwrite(&rootfs, |bytes| bytes[5_000_000] ^= 1);
    assert!(matches!(fixture.environments.open(NAME), Err(EnvironmentError::Damaged { .. })));
    assert!(matches!(fixture.state(), InstalledState::Damaged(_)));
    assert!(matches!(fixture.pull(false, &good()).await, Err(EnvironmentError::Damaged { .. })));
    assert!(fixture.pull(true, &good()).await.unwrap().fresh);

    // The same bytes with another time are the same image.
    overwrite(&rootfs, |_| {});
    fixture.environments.open(NAME).unwrap();

    let removed = fixture.environments.remove(NAME).unwrap();
    assert!(removed.disk_bytes > 0 && fixture.staged() == 0);
    assert!(matches!(fixture.environments.remove(NAME), Err(EnvironmentError::NotInstalled { .. })));
}

#[tokio::test]
async fn a_pull_that_fails_or_is_dropped_leaves_what_was_there() {
    let fixture = fixture();
    let failing = StandIn { fails: true, ..good() };
    assert!(matches!(fixture.pull(false, &failing).await, Err(EnvironmentError::Finish(_))));
    assert!(fixture.state() == InstalledState::No && fixture.staged() == 0);

    let digest = fixture.pull(false, &good()).await.unwrap().environment.digest;
    fixture.pull(true, &failing).await.unwrap_err();
    let slow = StandIn { takes: Duration::from_secs(600), ..good() };
    tokio::time::timeout(Duration::from_secs(20), async {
        let pull = fixture.pull(true, &slow);
        let started = async {
            while slow.calls.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = pull => panic!("it takes longer"),
            () = started => {}
        }
    })
    .await
    .unwrap();
    assert_eq!(fixture.staged(), 0);
    assert_eq!(fixture.environments.open(NAME).unwrap().digest, digest);
}

#[tokio::test]
async fn of_two_pulls_one_waits_and_finds_it_made() {
    let fixture = fixture();
    let finisher = StandIn { takes: Duration::from_millis(300), ..good() };
    let notes = std::sync::Mutex::new(Vec::new());
    let note = |progress| {
        if let Progress::Note(text) = progress {
            notes.lock().unwrap().push(text);
        }
    };
    let pull = || fixture.environments.pull(NAME, Pull { force: false, finisher: &finisher }, &note);
    let (first, second) = tokio::join!(pull(), pull());
    assert!(first.unwrap().fresh != second.unwrap().fresh);
    assert_eq!(finisher.calls.load(Ordering::Relaxed), 1);
    assert!(notes.lock().unwrap().iter().any(|text| text.contains("waiting")));
}

#[track_caller]
fn kinds(fixture: &Fixture, all: bool, dry_run: bool) -> Vec<PrunedKind> {
    let items = fixture.environments.prune(PruneOptions { all, dry_run }).unwrap();
    items.iter().map(|item| item.kind).collect()
}

#[tokio::test]
async fn a_prune_removes_what_nothing_needs_and_says_so_first() {
    let fixture = fixture();
    fixture.pull(false, &good()).await.unwrap();
    let cache = fixture.dir.path().join("cache");
    std::fs::create_dir_all(cache.join("kernels/0000")).unwrap();
    std::fs::create_dir_all(cache.join("staging/left-1-0")).unwrap();
    std::fs::write(cache.join("downloads").join("f".repeat(64)), "old").unwrap();
    let parts = ["fresh", "stale", "going-on"].map(|name| cache.join(format!("downloads/{name}.part")));
    for part in &parts {
        std::fs::write(part, "half").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - 2 * STALE_AFTER;
    for part in &parts[1..] {
        std::fs::File::options().write(true).open(part).unwrap().set_modified(long_ago).unwrap();
    }
    let going_on = std::fs::File::open(&parts[2]).unwrap();
    going_on.try_lock().unwrap();
    let booting = Hold::share(&cache.join("kernels/0000")).unwrap();
    assert!(!kinds(&fixture, false, true).contains(&PrunedKind::Kernel));
    drop(booting);

    let (staging, kernel, download) = (PrunedKind::Staging, PrunedKind::Kernel, PrunedKind::Download);
    assert_eq!(kinds(&fixture, true, true), [staging, kernel, download, download, download]);
    assert!(cache.join("kernels/0000").exists() && cache.join("staging/left-1-0").exists() && parts[1].exists());

    assert_eq!(kinds(&fixture, false, false), [staging, kernel, download]);
    assert!(!cache.join("kernels/0000").exists() && fixture.staged() == 0);
    assert_eq!(parts.each_ref().map(|part| part.exists()), [true, false, true]);
    assert_eq!(kinds(&fixture, true, false), [download, download]);
    assert!(parts[2].exists(), "a download that goes on was removed");
    fixture.environments.open(NAME).unwrap();

    fixture.environments.remove(NAME).unwrap();
    let rest = fixture.environments.prune(PruneOptions { all: true, dry_run: false }).unwrap();
    assert!(rest.iter().all(|item| item.kind == PrunedKind::Download) && !rest.is_empty());
}

#[test]
fn a_blank_disk_on_which_something_is_being_made_is_not_pruned() {
    let fixture = fixture();
    let begun = fixture.environments.blank_disk(1).unwrap();
    assert!(!kinds(&fixture, true, false).contains(&PrunedKind::BlankDisk));
    let again = fixture.environments.blank_disk(1).unwrap();
    drop(begun);
    assert!(!kinds(&fixture, true, false).contains(&PrunedKind::BlankDisk));
    drop(again);
    assert!(kinds(&fixture, true, false).contains(&PrunedKind::BlankDisk));
    assert_eq!(std::fs::read_dir(fixture.dir.path().join("cache/blank-disks")).unwrap().count(), 0);
}

#[test]
fn whoever_makes_something_on_a_blank_disk_while_others_prune_gets_one() {
    let fixture = fixture();
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| (0..200).for_each(|_| drop(kinds(&fixture, true, false))));
        while !pruning.is_finished() {
            let disk = fixture.environments.blank_disk(1).unwrap();
            let target = fixture.dir.path().join("base");
            pyro_store::sparse::share(&disk, &target, fixture.dir.path()).unwrap();
            assert_eq!(std::fs::metadata(&target).unwrap().len(), 1 << 30);
            std::fs::remove_file(target).unwrap();
        }
    });
}
