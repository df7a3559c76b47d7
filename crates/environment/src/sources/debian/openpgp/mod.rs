//! OpenPGP as far as archives need it: a text with signatures around it, verified against a keyring.
//!
//! RFC 9580, the part of it that `gpg` and `sqv` write for archives: version 4 keys and signatures, RSA from 2048 bits
//! and Ed25519, SHA-2 from 256 bits. Everything else is refused. There is no encryption here and no trust but the keyring;
//! the mathematics is `ring`'s. Why this is not a library: `docs/decisions/0005-archive-signatures.md`.

mod armor;
mod cleartext;
mod key;
mod keyring;
mod packet;

use std::fmt;

pub use keyring::{Keyring, KeyringError};

use keyring::SigningKey;
use packet::{Reader, Signature, TAG_SIGNATURE};

/// Signatures looked at in one file.
const SIGNATURES_MAX: usize = 32;

/// How far a signer's clock may be ahead of ours.
const CLOCK_SKEW_SECONDS: u64 = 24 * 3600;

const KIND_TEXT: u8 = 0x01;

/// Why a text is not taken for what a trusted key signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It does not have the form.
    #[error("it is not a signed text: {reason}")]
    NotSigned {
        /// What is wrong with the form.
        reason: &'static str,
    },
    /// None of its signatures counts.
    #[error("none of its signatures is good: {}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoneGood {
        /// What is wrong with each.
        findings: Vec<Finding>,
    },
}

/// Why one signature does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key it names: a fingerprint or an id, in hex.
    pub key: String,
    /// The user id of that key, where the keyring has it.
    pub owner: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read, or is not one over text.
    Unreadable,
    /// Its key is not in the keyring.
    UnknownKey,
    /// It does not fit the text, or its key cannot make such a signature.
    Wrong,
    /// Its hash function is too weak.
    WeakHash,
    /// Its key has ended.
    KeyExpired,
    /// Its key was revoked.
    KeyRevoked,
    /// It has ended itself.
    Expired,
    /// It was made in this machine's future, or before its key.
    WrongTime,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.fault {
            Fault::Unreadable => "cannot be read",
            Fault::UnknownKey => "is not a trusted key",
            Fault::Wrong => "did not sign this text",
            Fault::WeakHash => "signed with a hash that is too weak",
            Fault::KeyExpired => "has expired",
            Fault::KeyRevoked => "was revoked",
            Fault::Expired => "signed for a time that is over",
            Fault::WrongTime => "signed at a time that cannot be; is this machine's clock right?",
        };
        write!(out, "key {}", self.key)?;
        if let Some(owner) = &self.owner {
            write!(out, " ({owner})")?;
        }
        write!(out, " {words}")
    }
}

/// The text that a trusted key signed, and nothing around it: lines end in `\n`, without blanks at their ends.
///
/// # Errors
/// [`SignatureError`] unless the file is one signed text and nothing else, with at least one signature by a key of the
/// keyring that is good `now` (seconds since 1970).
pub fn verify(file: &[u8], keyring: &Keyring, now: u64) -> Result<String, SignatureError> {
    let signed = cleartext::open(file).map_err(|reason| SignatureError::NotSigned { reason })?;
    let mut reader = Reader(&signed.signatures);
    let mut findings = Vec::new();
    while let Some(packet) = reader.packet() {
        let malformed = SignatureError::NotSigned { reason: "its signature is malformed" };
        let packet = packet.filter(|_| findings.len() < SIGNATURES_MAX).ok_or(malformed)?;
        if packet.tag != TAG_SIGNATURE {
            continue;
        }
        match judge(packet.body, &signed.hashed, keyring, now) {
            Ok(()) => return Ok(signed.text),
            Err(finding) => findings.push(finding),
        }
    }
    Err(SignatureError::NoneGood { findings })
}

fn judge(body: &[u8], hashed: &str, keyring: &Keyring, now: u64) -> Result<(), Finding> {
    let unreadable = || Finding { key: "unknown".to_owned(), owner: None, fault: Fault::Unreadable };
    let signature = Signature::read(body).filter(|signature| signature.kind == KIND_TEXT).ok_or_else(unreadable)?;
    let finding = |owner, fault| Finding { key: issuer(&signature), owner, fault };
    let created = u64::from(signature.said.created.ok_or_else(unreadable)?);
    if signature.hash.is_err() {
        return Err(finding(None, Fault::WeakHash));
    }
    let (mut owner, mut fault) = (None, Fault::UnknownKey);
    for key in keyring.keys.iter().filter(|key| key.public.is_named_by(&signature)) {
        owner = Some(key.owner.clone());
        fault = if key.public.verifies(&signature, &[hashed.as_bytes()]) {
            match judge_times(key, &signature, created, now) {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            }
        } else {
            Fault::Wrong
        };
    }
    Err(finding(owner, fault))
}

fn judge_times(key: &SigningKey, signature: &Signature<'_>, created: u64, now: u64) -> Result<(), Fault> {
    let ends = signature.said.expires_after.filter(|seconds| *seconds > 0).map(|seconds| created + u64::from(seconds));
    if key.revoked {
        Err(Fault::KeyRevoked)
    } else if key.expires.is_some_and(|end| end <= now) {
        Err(Fault::KeyExpired)
    } else if created > now + CLOCK_SKEW_SECONDS || created < u64::from(key.public.created) {
        Err(Fault::WrongTime)
    } else if ends.is_some_and(|end| end <= now) {
        Err(Fault::Expired)
    } else {
        Ok(())
    }
}

fn issuer(signature: &Signature<'_>) -> String {
    match (signature.said.issuer_fingerprint, signature.said.issuer_id) {
        (Some(fingerprint), _) => pyro_store::hex::encode(fingerprint).to_uppercase(),
        (None, Some(id)) => format!("{id:016X}"),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
