//! Tests of [`super`] against what `gpg` and Debian wrote (`fixtures/`) and what the archive of tests signs.

use proptest::prelude::*;
use vm_tests::archive::{SigningKey, armor};

use super::{Fault, Keyring, KeyringError, SignatureError, verify};

/// 2024-03-01, when the fixtures' keys that should have ended had ended.
const FIXTURE_NOW: u64 = 1_709_251_200;
const FIXTURE_TEXT: &str = "Suite: test\nwith blanks\n- with a dash\n-----BEGIN PGP SIGNATURE-----\n\nend\n";
const KEYRING: &[u8] = include_bytes!("fixtures/keyring.gpg");
const PLAIN: &str = include_str!("fixtures/plain.asc");

/// 2026-11-23, when Debian's fixture was current.
const DEBIAN_NOW: u64 = 1_795_430_000;
const DEBIAN: &[u8] = include_bytes!("fixtures/debian.InRelease");
const DEBIAN_KEYRING: &[u8] = include_bytes!("../keys/debian-archive-bookworm-security-automatic.gpg");

fn verify_fixture(file: &str) -> Result<String, SignatureError> {
    verify(file.as_bytes(), &Keyring::read(KEYRING).unwrap(), FIXTURE_NOW)
}

#[track_caller]
fn check_faults(outcome: Result<String, SignatureError>, expected: &[Fault]) {
    let Err(SignatureError::NoneGood { findings }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(findings.iter().map(|finding| finding.fault).collect::<Vec<_>>(), expected);
}

#[track_caller]
fn check_not_signed(file: &str, expected: &str) {
    assert_eq!(verify_fixture(file).unwrap_err().to_string(), format!("it is not a signed text: {expected}"));
}

#[test]
fn what_gpg_signed_is_verified() {
    for file in [
        PLAIN,
        include_str!("fixtures/rsa.asc"),
        include_str!("fixtures/sha256.asc"),
        include_str!("fixtures/both.asc"),
    ] {
        assert_eq!(verify_fixture(file).unwrap(), FIXTURE_TEXT);
    }
    assert_eq!(verify_fixture(&PLAIN.replace('\n', "\r\n")).unwrap(), FIXTURE_TEXT);
}

#[test]
fn what_debian_signed_is_verified() {
    let text = verify(DEBIAN, &Keyring::read(DEBIAN_KEYRING).unwrap(), DEBIAN_NOW).unwrap();
    assert!(text.starts_with("Origin: Debian\nLabel: Debian-Security\n"));
    let after_its_end = 1_926_589_533;
    let outcome = verify(DEBIAN, &Keyring::read(DEBIAN_KEYRING).unwrap(), after_its_end);
    check_faults(outcome, &[Fault::UnknownKey, Fault::KeyExpired]);
}

#[test]
fn what_the_archive_of_tests_signs_is_verified() {
    let key = SigningKey::new();
    let now = vm_tests::archive::now();
    let signed = key.sign_cleartext("- a\n\nb  \n", now);
    let armored = armor("PUBLIC KEY BLOCK", &key.keyring());
    for keyring in [key.keyring(), armored.clone().into_bytes(), (armored.clone() + &armored).into_bytes()] {
        assert_eq!(verify(signed.as_bytes(), &Keyring::read(&keyring).unwrap(), now).unwrap(), "- a\n\nb\n");
    }
    let other = SigningKey::new();
    check_faults(verify(signed.as_bytes(), &Keyring::read(&other.keyring()).unwrap(), now), &[Fault::UnknownKey]);
    let expired = key.clone().expired();
    let error = verify(signed.as_bytes(), &Keyring::read(&expired.keyring()).unwrap(), now).unwrap_err().to_string();
    assert!(error.ends_with("(Archive of tests <test@example.org>) has expired"), "{error}");
    check_faults(verify(signed.as_bytes(), &Keyring::read(&expired.keyring()).unwrap(), now), &[Fault::KeyExpired]);
    let revoked = key.clone().revoked();
    check_faults(verify(signed.as_bytes(), &Keyring::read(&revoked.keyring()).unwrap(), now), &[Fault::KeyRevoked]);
}

#[test]
fn signatures_that_do_not_count_say_why() {
    check_faults(verify_fixture(include_str!("fixtures/unknown.asc")), &[Fault::UnknownKey]);
    check_faults(verify_fixture(include_str!("fixtures/expired.asc")), &[Fault::KeyExpired]);
    check_faults(verify_fixture(include_str!("fixtures/revoked.asc")), &[Fault::KeyRevoked]);
    check_faults(verify_fixture(include_str!("fixtures/subrevoked.asc")), &[Fault::KeyRevoked]);
    check_faults(verify_fixture(include_str!("fixtures/weak.asc")), &[Fault::WeakHash]);
    check_faults(verify_fixture(include_str!("fixtures/future.asc")), &[Fault::WrongTime]);
    check_faults(verify_fixture(include_str!("fixtures/passing.asc")), &[Fault::Expired]);
    let detached = armor("SIGNATURE", include_bytes!("fixtures/detached.sig"));
    let start = PLAIN.rfind("-----BEGIN").unwrap();
    check_faults(verify_fixture(&(PLAIN[..start].to_owned() + &detached)), &[Fault::Unreadable]);
}

#[test]
fn a_changed_text_is_refused() {
    for (from, to) in [("test", "tset"), ("end\n", "end\n\n"), ("end\n", "end\nmore\n"), ("- - with", "- with")] {
        let changed = PLAIN.replacen(from, to, 1);
        assert_ne!(changed, PLAIN);
        check_faults(verify_fixture(&changed), &[Fault::Wrong]);
    }
    // Blanks at the ends of lines are not signed, and not handed out either.
    assert_eq!(verify_fixture(&PLAIN.replace("end\n", "end \t\n")).unwrap(), FIXTURE_TEXT);
}

#[test]
fn nothing_outside_the_frame_is_accepted() {
    check_not_signed(&format!("\n{PLAIN}"), "it does not begin as one");
    check_not_signed(&format!("Suite: evil\n{PLAIN}"), "it does not begin as one");
    check_not_signed(&format!("{PLAIN}Suite: evil\n"), "there is something after its signature");
    check_not_signed(&format!("{PLAIN}{PLAIN}"), "there is something after its signature");
    check_not_signed(&PLAIN.replacen("Hash: ", "Suite: evil\nHash: ", 1), "its head has an unknown line");
    check_not_signed(&PLAIN.replacen("- -----BEGIN", "-----BEGIN", 1), "its signature is not in base64");
    check_not_signed(&PLAIN.replacen("- - with", "-- with", 1), "a line in it starts with a dash");
    check_not_signed(&PLAIN[..PLAIN.len() - 40], "its signature has no end");
    check_not_signed("<html>sign in to the network</html>", "it does not begin as one");
    check_not_signed("", "it does not begin as one");
    assert!(verify_fixture(&format!("{PLAIN}\n \n")).is_ok());
}

#[test]
fn only_signing_keys_are_in_a_keyring() {
    let keyring = Keyring::read(KEYRING).unwrap();
    let owners: Vec<&str> = keyring.keys.iter().map(|key| key.owner.as_str()).collect();
    assert_eq!(owners, ["plain", "rsa", "expired", "revoked", "subrevoked"]);
    let armored = include_bytes!("fixtures/plain.key.asc");
    assert_eq!(Keyring::read(armored).unwrap().keys[0].owner, "plain");
}

#[test]
fn what_is_no_keyring_is_refused() {
    assert_eq!(Keyring::read(b"").unwrap_err(), KeyringError::NoSigningKey);
    assert_eq!(Keyring::read(b"hello").unwrap_err(), KeyringError::NotAKeyring);
    assert_eq!(Keyring::read(b"\0\0\0\x20\x01\x01\0\x02KBXf").unwrap_err(), KeyringError::Keybox);
    let truncated = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n";
    assert_eq!(Keyring::read(truncated.as_bytes()).unwrap_err(), KeyringError::NotAKeyring);
    assert_eq!(Keyring::read(&KEYRING[..KEYRING.len() - 1]).unwrap_err(), KeyringError::NotAKeyring);
}

#[test]
fn a_key_without_its_own_signatures_is_none() {
    // The key packet and the user id, but not the signature that binds them.
    let keyring = SigningKey::new().keyring();
    let key_length = 6 + usize::from(keyring[5]);
    let bare = &keyring[..key_length + 6 + usize::from(keyring[key_length + 5])];
    assert_eq!(Keyring::read(bare).unwrap_err(), KeyringError::NoSigningKey);
}

proptest! {
    #[test]
    fn no_changed_byte_gets_through(at in 0..PLAIN.len(), byte in 0x20u8..0x7f) {
        let mut changed = PLAIN.as_bytes().to_vec();
        changed[at] = byte;
        if let Ok(text) = verify(&changed, &Keyring::read(KEYRING).unwrap(), FIXTURE_NOW) {
            prop_assert_eq!(text, FIXTURE_TEXT);
        }
    }

    #[test]
    fn no_changed_keyring_panics(at in 0..KEYRING.len(), byte in any::<u8>()) {
        let mut changed = KEYRING.to_vec();
        changed[at] = byte;
        if let Ok(keyring) = Keyring::read(&changed) {
            drop(verify(PLAIN.as_bytes(), &keyring, FIXTURE_NOW));
        }
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Keyring::read(&bytes));
        let framed = format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nx\n{}", armor("SIGNATURE", &bytes));
        prop_assert!(verify_fixture(&framed).is_err());
    }
}
