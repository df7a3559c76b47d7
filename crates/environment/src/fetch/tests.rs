//! Tests of [`super`] against a server on the loopback that does what it is told to do wrong.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use vm_tests::http::{Fault, Server};

use super::{FetchError, Fetcher, Patience, RemoteFile, shown};
use crate::settings::ProxySettings;

const CONTENT_LENGTH: usize = 300_000;

struct Bed {
    server: Server,
    dir: tempfile::TempDir,
    remote: RemoteFile,
    content: Vec<u8>,
}

fn bed() -> Bed {
    let server = Server::start();
    let content: Vec<u8> = (0..CONTENT_LENGTH).map(|at| (at * 7 % 251) as u8).collect();
    server.put("/a.deb", content.clone());
    let sha256 = vm_tests::archive::sha256(&content);
    let remote = RemoteFile { url: server.url() + "/a.deb", size_bytes: content.len() as u64, sha256 };
    Bed { server, dir: tempfile::tempdir().unwrap(), remote, content }
}

fn fetcher() -> Fetcher {
    fetcher_through(&ProxySettings::default())
}

fn fetcher_through(proxy: &ProxySettings) -> Fetcher {
    let patience = Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_millis(400),
        idle_attempts_max: 3,
        first_pause: Duration::from_millis(5),
    };
    Fetcher::with_patience(proxy, patience).unwrap()
}

impl Bed {
    fn path(&self) -> PathBuf {
        self.dir.path().join("kept")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("kept.part")
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        fetcher().file(&self.remote, &self.path(), &|_| {}).await
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }

    #[track_caller]
    fn check_good(&self) {
        assert!(std::fs::read(self.path()).unwrap() == self.content);
        assert_eq!(self.files(), 1);
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.server.requests().into_iter().map(|request| request.range).collect()
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_and_then_kept() {
    let bed = bed();
    let seen = Mutex::new(0);
    fetcher().file(&bed.remote, &bed.path(), &|got| *seen.lock().unwrap() = got).await.unwrap();
    bed.check_good();
    assert_eq!(seen.into_inner().unwrap(), bed.remote.size_bytes);
    bed.fetch().await.unwrap();
    assert_eq!(bed.server.requests().len(), 1);
}

#[tokio::test]
async fn a_kept_file_that_is_not_good_is_fetched_again() {
    let bed = bed();
    std::fs::write(bed.path(), vec![0; CONTENT_LENGTH]).unwrap();
    bed.fetch().await.unwrap();
    bed.check_good();
}

#[tokio::test]
async fn a_cut_connection_is_resumed() {
    let bed = bed();
    bed.server.fail("/a.deb", Fault::CutAfter(100_000));
    bed.fetch().await.unwrap();
    bed.check_good();
    assert_eq!(bed.ranges(), [None, Some("bytes=100000-".to_owned())]);
    assert!(bed.server.requests()[1].if_range.is_some());
}

#[tokio::test]
async fn any_number_of_cuts_that_bring_something_is_outlived() {
    let bed = bed();
    for _ in 0..20 {
        bed.server.fail("/a.deb", Fault::CutAfter(10_000));
    }
    bed.fetch().await.unwrap();
    bed.check_good();
}

#[tokio::test]
async fn what_an_earlier_process_left_is_gone_on_with() {
    let bed = bed();
    std::fs::write(bed.part(), &bed.content[..200_000]).unwrap();
    bed.fetch().await.unwrap();
    bed.check_good();
    assert_eq!(bed.ranges(), [Some("bytes=200000-".to_owned())]);
}

#[tokio::test]
async fn a_whole_part_file_needs_no_server() {
    let bed = bed();
    std::fs::write(bed.part(), &bed.content).unwrap();
    bed.fetch().await.unwrap();
    bed.check_good();
    assert!(bed.server.requests().is_empty());
}

#[tokio::test]
async fn a_part_file_of_something_else_is_started_over() {
    for length in [1000, CONTENT_LENGTH, CONTENT_LENGTH + 1000] {
        let bed = bed();
        std::fs::write(bed.part(), vec![1; length]).unwrap();
        bed.fetch().await.unwrap();
        bed.check_good();
    }
}

#[tokio::test]
async fn a_file_that_changed_between_two_answers_is_fetched_whole() {
    let bed = bed();
    bed.server.put("/a.deb", vec![9; CONTENT_LENGTH]);
    bed.server.fail("/a.deb", Fault::CutAfter(100_000));
    bed.server.fail("/a.deb", Fault::Replace(bed.content.clone()));
    bed.fetch().await.unwrap();
    bed.check_good();
    assert_eq!(bed.ranges(), [None, Some("bytes=100000-".to_owned())]);
}

#[tokio::test]
async fn a_server_without_ranges_or_with_wrong_ones_sends_all() {
    for fault in [Fault::IgnoreRange, Fault::WrongRange, Fault::Status(416)] {
        let bed = bed();
        std::fs::write(bed.part(), &bed.content[..200_000]).unwrap();
        bed.server.fail("/a.deb", fault);
        bed.fetch().await.unwrap();
        bed.check_good();
    }
}

#[tokio::test]
async fn passing_failures_are_retried() {
    for fault in [Fault::Status(503), Fault::Status(429), Fault::Stall(Duration::from_secs(2)), Fault::NoLength] {
        let bed = bed();
        bed.server.fail("/a.deb", fault);
        bed.fetch().await.unwrap();
        bed.check_good();
    }
}

#[tokio::test]
async fn lasting_failures_are_not() {
    let bed = bed();
    for _ in 0..10 {
        bed.server.fail("/a.deb", Fault::Status(503));
    }
    let error = bed.fetch().await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert_eq!(bed.server.requests().len(), 3);
    bed.server.remove("/a.deb");
    let missing = RemoteFile { url: bed.server.url() + "/b.deb", ..bed.remote.clone() };
    let error = fetcher().file(&missing, &bed.path(), &|_| {}).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_unreachable(), "{error}");
    assert_eq!(bed.server.requests().len(), 4);
}

#[tokio::test]
async fn nobody_there_is_said_with_the_url() {
    let bed = bed();
    bed.server.refuse(true);
    let error = bed.fetch().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach {}", bed.remote.url));
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn a_wrong_file_is_refused_and_leaves_nothing() {
    let bed = bed();
    let mut tampered = bed.content.clone();
    tampered[1000] ^= 1;
    bed.server.fail("/a.deb", Fault::Replace(tampered.clone()));
    let Err(FetchError::Digest { url, expected, found }) = bed.fetch().await else { panic!("taken") };
    assert_eq!((url, expected), (bed.remote.url.clone(), bed.remote.sha256.clone()));
    assert_eq!(found, vm_tests::archive::sha256(&tampered));
    assert_eq!(bed.files(), 0);
}

#[tokio::test]
async fn a_file_of_another_size_is_refused_without_reading_it() {
    for (length, announced) in [(CONTENT_LENGTH - 1, true), (CONTENT_LENGTH + 1, true), (CONTENT_LENGTH * 4, false)] {
        let bed = bed();
        bed.server.put("/a.deb", vec![0; length]);
        if !announced {
            bed.server.fail("/a.deb", Fault::NoLength);
        }
        let Err(FetchError::Size { expected, found, .. }) = bed.fetch().await else { panic!("taken") };
        assert_eq!(expected, CONTENT_LENGTH as u64);
        assert_ne!(found, expected);
        assert_eq!(bed.files(), 0);
    }
}

#[tokio::test]
async fn a_dropped_download_is_gone_on_with() {
    let bed = bed();
    bed.server.fail("/a.deb", Fault::Stall(Duration::from_secs(5)));
    let has_some = async {
        while std::fs::metadata(bed.part()).map_or(0, |part| part.len()) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = bed.fetch() => panic!("the rest of it does not come yet"),
        () = has_some => {}
    }
    bed.fetch().await.unwrap();
    bed.check_good();
    assert_eq!(bed.ranges().len(), 2);
    assert!(bed.ranges()[1].is_some());
}

#[tokio::test]
async fn two_downloads_of_one_file_are_one() {
    let bed = bed();
    bed.server.fail("/a.deb", Fault::Stall(Duration::from_millis(200)));
    let (first, second) = tokio::join!(bed.fetch(), bed.fetch());
    first.unwrap();
    second.unwrap();
    bed.check_good();
    assert_eq!(bed.server.requests().len(), 1);
}

#[tokio::test]
async fn a_second_download_takes_over_from_one_that_fails() {
    let bed = bed();
    let mut tampered = bed.content.clone();
    tampered[0] ^= 1;
    bed.server.fail("/a.deb", Fault::Replace(tampered));
    let (first, second) = tokio::join!(bed.fetch(), bed.fetch());
    assert!(first.is_err() != second.is_err());
    bed.check_good();
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_named() {
    let bed = bed();
    let error = fetcher().file(&bed.remote, Path::new("/proc/nowhere/kept"), &|_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot write /proc/nowhere/kept.part");
}

#[tokio::test]
async fn a_proxy_is_used_unless_the_host_is_excepted() {
    let bed = bed();
    let proxy = Server::start();
    proxy.put("/a.deb", bed.content.clone());
    let mut settings = ProxySettings { http: Some(proxy.url()), ..ProxySettings::default() };
    let remote = RemoteFile { url: "http://archive.invalid/a.deb".to_owned(), ..bed.remote.clone() };
    fetcher_through(&settings).file(&remote, &bed.path(), &|_| {}).await.unwrap();
    bed.check_good();
    assert_eq!(proxy.requests()[0].target, "http://archive.invalid/a.deb");

    settings.no_proxy = Some("localhost, 127.0.0.1".to_owned());
    fetcher_through(&settings).bytes(&bed.remote.url, 1 << 20).await.unwrap();
    assert_eq!((proxy.requests().len(), bed.server.requests().len()), (1, 1));

    settings.http = Some(proxy.url().replace("http://", ""));
    fetcher_through(&settings).bytes("http://archive.invalid/a.deb", 1 << 20).await.unwrap();
    assert_eq!(proxy.requests().len(), 2);
}

#[tokio::test]
async fn a_proxy_that_is_none_is_named_without_its_password() {
    let settings = ProxySettings { http: Some("http://me:secret@[bad/".to_owned()), ..ProxySettings::default() };
    let error = Fetcher::new(&settings).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the proxy http://[bad/");
    assert_eq!(shown("https://me:secret@example.org:1/a@b?c"), "https://example.org:1/a@b?c");
}

#[tokio::test]
async fn small_files_are_bounded_and_probes_answer() {
    let bed = bed();
    assert_eq!(fetcher().bytes(&bed.remote.url, CONTENT_LENGTH as u64).await.unwrap(), bed.content);
    let error = fetcher().bytes(&bed.remote.url, 1000).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { size_bytes_max: 1000, .. }), "{error}");
    fetcher().probe(&bed.remote.url, Duration::from_secs(5)).await.unwrap();
    assert!(fetcher().probe(&(bed.server.url() + "/none"), Duration::from_secs(5)).await.unwrap_err().is_not_found());
    assert!(fetcher().bytes("not a url", 10).await.is_err());
}
