//! Keyrings: which keys may sign, from when and until when.
//!
//! A key counts only by a signature of its own primary key: a certification of a user id for the primary key, a binding
//! (answered by the subkey) for a subkey. A revoked key is revoked for all it ever signed. Not looked at: certifications
//! by others, for trust is the keyring itself; revocations by a third, designated key.

use super::armor;
use super::key::PublicKey;
use super::packet::{
    Packet, Reader, Signature, TAG_PUBLIC_KEY, TAG_PUBLIC_SUBKEY, TAG_SECRET_KEY, TAG_SIGNATURE, TAG_USER_ATTRIBUTE,
    TAG_USER_ID,
};

/// Keys that are trusted to sign.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    pub(super) keys: Vec<SigningKey>,
}

/// A key that may sign, or might once.
#[derive(Debug, Clone)]
pub(super) struct SigningKey {
    pub(super) public: PublicKey,
    /// The user id of its certificate.
    pub(super) owner: String,
    /// When it ends, in seconds since 1970.
    pub(super) expires: Option<u64>,
    pub(super) revoked: bool,
}

/// A keyring that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It is neither OpenPGP packets nor their armored form.
    #[error("it is not an OpenPGP keyring, binary or armored")]
    NotAKeyring,
    /// It is `gpg`'s own database.
    #[error("it is a GnuPG keybox; write it out with `gpg --export`")]
    Keybox,
    /// No key in it may sign.
    #[error("it has no key that may sign (RSA of 2048 bits or more, or Ed25519)")]
    NoSigningKey,
}

const KIND_DIRECT_KEY: u8 = 0x1f;
const KIND_SUBKEY_BINDING: u8 = 0x18;
const KIND_PRIMARY_BINDING: u8 = 0x19;
const KIND_KEY_REVOCATION: u8 = 0x20;
const KIND_SUBKEY_REVOCATION: u8 = 0x28;
const FLAG_SIGN: u8 = 0x02;

impl Keyring {
    /// Reads a keyring.
    ///
    /// # Errors
    /// [`KeyringError`]; a key in it that is not valid is left out.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyringError> {
        let decoded;
        let binary = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN PGP") => {
                decoded = armor::decode_blocks(text, "PUBLIC KEY BLOCK").ok_or(KeyringError::NotAKeyring)?;
                &decoded
            }
            _ => bytes,
        };
        if binary.get(8..12) == Some(b"KBXf") {
            return Err(KeyringError::Keybox);
        }
        let mut keys = Vec::new();
        let mut certificate: Vec<Packet<'_>> = Vec::new();
        let mut reader = Reader(binary);
        while let Some(packet) = reader.packet() {
            let packet = packet.ok_or(KeyringError::NotAKeyring)?;
            if matches!(packet.tag, TAG_PUBLIC_KEY | TAG_SECRET_KEY) {
                keys.extend(read_certificate(&certificate));
                certificate.clear();
            }
            certificate.push(packet);
        }
        keys.extend(read_certificate(&certificate));
        if keys.is_empty() { Err(KeyringError::NoSigningKey) } else { Ok(Self { keys }) }
    }

    /// Adds the keys of another one.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }
}

/// A signed-over part of a certificate: the primary key itself, a user id or a subkey, with the signatures after it.
struct Part<'a> {
    packet: Packet<'a>,
    signatures: Vec<&'a [u8]>,
}

/// What a certificate's own signatures say of a key.
#[derive(Default)]
struct Standing {
    bound: bool,
    flags: Option<u8>,
    expires_after: Option<u32>,
}

fn read_certificate(packets: &[Packet<'_>]) -> Vec<SigningKey> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for &packet in packets {
        match packet.tag {
            TAG_PUBLIC_KEY | TAG_PUBLIC_SUBKEY | TAG_USER_ID | TAG_USER_ATTRIBUTE => {
                parts.push(Part { packet, signatures: Vec::new() });
            }
            TAG_SIGNATURE => {
                if let Some(part) = parts.last_mut() {
                    part.signatures.push(packet.body);
                }
            }
            _ => {}
        }
    }
    let Some((first, others)) = parts.split_first().filter(|(first, _)| first.packet.tag == TAG_PUBLIC_KEY) else {
        return Vec::new();
    };
    let Some(primary) = PublicKey::read(first.packet.body) else { return Vec::new() };
    let standing = primary_standing(&primary, first, others);
    if !standing.bound {
        return Vec::new();
    }
    let owner = others.iter().find(|part| part.packet.tag == TAG_USER_ID);
    let owner = owner.map_or_else(String::new, |part| {
        String::from_utf8_lossy(part.packet.body).chars().filter(|letter| !letter.is_control()).collect()
    });
    let revoked = is_revoked(&primary, first, KIND_KEY_REVOCATION, &[]);
    let expires = end(&primary, standing.expires_after);
    let mut keys = Vec::new();
    for part in others.iter().filter(|part| part.packet.tag == TAG_PUBLIC_SUBKEY) {
        let Some(subkey) = PublicKey::read(part.packet.body) else { continue };
        let own = subkey_standing(&primary, &subkey, part);
        if own.bound && may_sign(&own) {
            let ends = [expires, end(&subkey, own.expires_after)].into_iter().flatten().min();
            let revoked = revoked || is_revoked(&primary, part, KIND_SUBKEY_REVOCATION, &subkey.hashed());
            keys.push(SigningKey { public: subkey, owner: owner.clone(), expires: ends, revoked });
        }
    }
    if may_sign(&standing) {
        keys.push(SigningKey { public: primary, owner, expires, revoked });
    }
    keys
}

fn may_sign(standing: &Standing) -> bool {
    standing.flags.is_none_or(|flags| flags & FLAG_SIGN != 0)
}

fn end(key: &PublicKey, expires_after: Option<u32>) -> Option<u64> {
    expires_after.filter(|seconds| *seconds > 0).map(|seconds| u64::from(key.created) + u64::from(seconds))
}

/// The newest certification of a user id speaks for the key; what it leaves open, the newest signature on the key alone does.
fn primary_standing(primary: &PublicKey, first: &Part<'_>, others: &[Part<'_>]) -> Standing {
    let hashed = primary.hashed();
    let about_key: Vec<&[u8]> = hashed.iter().map(Vec::as_slice).collect();
    let direct = newest(primary, &first.signatures, &[KIND_DIRECT_KEY], &about_key);
    let certified = others.iter().filter(|part| part.packet.tag == TAG_USER_ID).filter_map(|part| {
        let length = u32::try_from(part.packet.body.len()).ok()?.to_be_bytes();
        let mut content = about_key.clone();
        content.extend([&[0xb4], length.as_slice(), part.packet.body]);
        newest(primary, &part.signatures, &[0x10, 0x11, 0x12, 0x13], &content)
    });
    let certified = certified.max_by_key(|signature| signature.said.created);
    let said = |pick: fn(&Signature<'_>) -> Option<u32>| {
        certified.as_ref().and_then(pick).or_else(|| direct.as_ref().and_then(pick))
    };
    Standing {
        bound: certified.is_some() || direct.is_some(),
        flags: said(|signature| signature.said.key_flags.map(u32::from)).and_then(|flags| u8::try_from(flags).ok()),
        expires_after: said(|signature| signature.said.key_expires_after),
    }
}

fn subkey_standing(primary: &PublicKey, subkey: &PublicKey, part: &Part<'_>) -> Standing {
    let hashed = [primary.hashed(), subkey.hashed()].concat();
    let content: Vec<&[u8]> = hashed.iter().map(Vec::as_slice).collect();
    let Some(binding) = newest(primary, &part.signatures, &[KIND_SUBKEY_BINDING], &content) else {
        return Standing::default();
    };
    // Without the subkey's own word anyone could adopt another's signing key.
    let answered = binding
        .said
        .embedded
        .and_then(Signature::read)
        .is_some_and(|answer| answer.kind == KIND_PRIMARY_BINDING && subkey.verifies(&answer, &content));
    Standing { bound: answered, flags: binding.said.key_flags, expires_after: binding.said.key_expires_after }
}

fn newest<'a>(primary: &PublicKey, signatures: &[&'a [u8]], kinds: &[u8], content: &[&[u8]]) -> Option<Signature<'a>> {
    signatures
        .iter()
        .filter_map(|body| Signature::read(body))
        .filter(|signature| kinds.contains(&signature.kind) && primary.is_named_by(signature))
        .filter(|signature| signature.said.created.is_some() && primary.verifies(signature, content))
        .max_by_key(|signature| signature.said.created)
}

/// A revocation that cannot be checked, for its hash is not accepted any more, counts as well: better no key than a bad one.
fn is_revoked(primary: &PublicKey, part: &Part<'_>, kind: u8, subkey: &[Vec<u8>]) -> bool {
    let hashed = [primary.hashed().as_slice(), subkey].concat();
    let content: Vec<&[u8]> = hashed.iter().map(Vec::as_slice).collect();
    let revocations = part.signatures.iter().filter_map(|body| Signature::read(body));
    revocations
        .filter(|signature| signature.kind == kind && primary.is_named_by(signature))
        .any(|signature| signature.hash.is_err() || primary.verifies(&signature, &content))
}
