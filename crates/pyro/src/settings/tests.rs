//! Tests of the settings: which source wins, and that nothing is ignored.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pyro_engine::machine::AcceleratorChoice;
use pyro_engine::settings::{DebianSuite, Settings};

use super::{SettingsError, Variables, load_from};

#[track_caller]
fn load(variables: &[(&str, &str)], config: &str) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    let mut all: BTreeMap<String, OsString> = BTreeMap::new();
    all.insert("HOME".into(), dir.path().into());
    for (name, value) in variables {
        all.insert((*name).into(), value.into());
    }
    let config_dir = dir.path().join(".config/pyro");
    std::fs::create_dir_all(&config_dir).unwrap();
    if !config.is_empty() {
        std::fs::write(config_dir.join("config.toml"), config).unwrap();
    }
    load_from(&Variables(&|name| all.get(name).cloned()))
}

#[track_caller]
fn check_refused(variables: &[(&str, &str)], config: &str, words: &str) {
    let error = load(variables, config).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn directories_follow_variable_then_xdg_then_home() {
    let own = load(&[("PYRO_CACHE_DIR", "/own"), ("XDG_CACHE_HOME", "/xdg")], "cache_dir = '/file'").unwrap();
    assert_eq!(own.cache_dir, Path::new("/own"));
    assert_eq!(load(&[], "cache_dir = '/file'").unwrap().cache_dir, Path::new("/file"));
    assert_eq!(load(&[("XDG_STATE_HOME", "/xdg")], "").unwrap().state_dir, Path::new("/xdg/pyro"));
    assert!(load(&[], "").unwrap().state_dir.ends_with(".local/state/pyro"));
    // Relative XDG directories are to be ignored, empty variables are no variables.
    assert!(load(&[("XDG_CACHE_HOME", "relative")], "").unwrap().cache_dir.ends_with(".cache/pyro"));
    assert!(load(&[("PYRO_CACHE_DIR", "")], "").unwrap().cache_dir.ends_with(".cache/pyro"));
}

#[test]
fn no_home_is_named() {
    let error = load_from(&Variables(&|_| None)).unwrap_err();
    assert!(matches!(error, SettingsError::NoHome { variable: "PYRO_CACHE_DIR" }), "{error}");
    let placed =
        |name: &str| name.starts_with("PYRO_").then(|| OsString::from("/x")).filter(|_| name.ends_with("_DIR"));
    assert_eq!(load_from(&Variables(&placed)).unwrap().state_dir, PathBuf::from("/x"));
}

#[test]
fn the_accelerator_may_come_from_both() {
    assert_eq!(load(&[], "accelerator = 'tcg'").unwrap().accelerator, AcceleratorChoice::Tcg);
    let both = load(&[("PYRO_ACCELERATOR", "kvm")], "accelerator = 'tcg'").unwrap();
    assert_eq!(both.accelerator, AcceleratorChoice::Kvm);
    check_refused(&[("PYRO_ACCELERATOR", "hvf")], "", "PYRO_ACCELERATOR is 'hvf', expected auto, kvm or tcg");
}

#[test]
fn a_mirror_brings_its_own_security_archive() {
    let check = |variables: &[(&str, &str)], main: &str, security: &str| {
        let debian = load(variables, "").unwrap().environment.debian;
        assert_eq!((debian.mirror_url.as_str(), debian.security_url.as_str()), (main, security));
    };
    check(&[], "http://deb.debian.org/debian", "http://deb.debian.org/debian-security");
    check(&[("PYRO_DEBIAN_MIRROR", "http://m/debian/")], "http://m/debian", "http://m/debian-security");
    check(&[("PYRO_DEBIAN_MIRROR", "http://m:80")], "http://m:80", "http://m:80");
    let both = [("PYRO_DEBIAN_MIRROR", "http://m/debian"), ("PYRO_DEBIAN_SECURITY_MIRROR", "https://s/")];
    check(&both, "http://m/debian", "https://s");
    check_refused(&[("PYRO_DEBIAN_MIRROR", "ftp://m")], "", "expected a URL that starts with");
}

#[test]
fn suites_are_words_between_commas() {
    let suites = load(&[("PYRO_DEBIAN_SUITES", "release, security")], "").unwrap().environment.debian.suites;
    assert_eq!(suites, [DebianSuite::Release, DebianSuite::Security]);
    check_refused(&[], "[debian]\nsuites = 'security'", "debian.suites in ");
}

#[test]
fn a_kernel_is_a_path_or_a_table() {
    let short = load(&[], "kernel = '/boot/vmlinuz'").unwrap().environment.kernel.unwrap();
    assert_eq!((short.image, short.modules_dir), ("/boot/vmlinuz".into(), None));
    let table = load(&[], "[kernel]\nimage = '/k'\nmodules = '/m'").unwrap().environment.kernel.unwrap();
    assert_eq!(table.modules_dir, Some("/m".into()));
    check_refused(&[], "kernel = 'vmlinuz'", "expected an absolute path");
    check_refused(&[], "[kernel]\nmodules = '/m'", "kernel.image");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    check_refused(&[], "acelerator = 'tcg'", "unknown key 'acelerator'");
    check_refused(&[], "[kernel]\nimagine = '/k'", "unknown key 'kernel.imagine'");
    check_refused(&[], "[debian]\nmirror = 7", "debian.mirror in ");
    check_refused(&[], "qemu = ''", "expected text in quotation marks");
    check_refused(&[], "a = 1\nb = = 2", "config.toml, line 2:");
    let Err(SettingsError::UnknownKey { known, .. }) = load(&[], "acelerator = 'tcg'") else { panic!("accepted") };
    assert_eq!(known[0], "accelerator");
}

#[test]
fn proxies_are_read_in_either_case() {
    let proxy = load(&[("HTTPS_PROXY", "http://p:1"), ("all_proxy", "http://a"), ("no_proxy", "x")], "")
        .unwrap()
        .environment
        .proxy;
    assert_eq!(proxy.https.as_deref(), Some("http://p:1"));
    assert_eq!(proxy.http.as_deref(), Some("http://a"));
    assert_eq!(proxy.no_proxy.as_deref(), Some("x"));
}
