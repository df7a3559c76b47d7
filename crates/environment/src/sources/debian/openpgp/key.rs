//! Public keys and what they verify. The mathematics is `ring`'s.

use ring::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::packet::{Hash, Reader, Signature};

/// A version 4 public key.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    body: Vec<u8>,
    pub(super) fingerprint: [u8; 20],
    pub(super) created: u32,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Ed25519([u8; 32]),
    /// Of a kind that no archive we know of signs with.
    Unsupported,
}

/// RSA for signing and encryption; RSA for signing only has 3.
const RSA: u8 = 1;
const RSA_SIGN_ONLY: u8 = 3;
/// EdDSA as GnuPG has written it since before RFC 9580.
const EDDSA_LEGACY: u8 = 22;
const ED25519_NATIVE: u8 = 27;
/// The object identifier of Ed25519 in legacy keys.
const ED25519_CURVE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];
/// Says that a point is written as a plain coordinate.
const NATIVE_POINT: u8 = 0x40;

impl PublicKey {
    /// Reads the body of a key packet; `None` for other versions and what is malformed.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.byte()? != 4 || body.len() > usize::from(u16::MAX) {
            return None;
        }
        let created = reader.number(4)?;
        let algorithm = reader.byte()?;
        let material = match algorithm {
            RSA | RSA_SIGN_ONLY => Material::Rsa { modulus: reader.mpi()?.to_vec(), exponent: reader.mpi()?.to_vec() },
            EDDSA_LEGACY => read_legacy_point(reader).map_or(Material::Unsupported, Material::Ed25519),
            ED25519_NATIVE => Material::Ed25519(reader.take(32)?.try_into().ok()?),
            _ => Material::Unsupported,
        };
        let mut key = Self { body: body.to_vec(), fingerprint: [0; 20], created, material };
        let hashed = key.hashed();
        // SHA-1 only names the key here; what a key may do is proven by signatures with better hashes.
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed.concat());
        key.fingerprint = digest.as_ref().try_into().ok()?;
        Some(key)
    }

    /// The key as it is hashed for signatures about it.
    pub(super) fn hashed(&self) -> [Vec<u8>; 2] {
        let length = u16::try_from(self.body.len()).unwrap_or(u16::MAX).to_be_bytes();
        [[&[0x99], length.as_slice()].concat(), self.body.clone()]
    }

    /// The last 8 bytes of the fingerprint.
    pub(super) fn id(&self) -> u64 {
        self.fingerprint.iter().skip(12).fold(0, |id, byte| id << 8 | u64::from(*byte))
    }

    /// Whether a signature says that this key made it.
    pub(super) fn is_named_by(&self, signature: &Signature<'_>) -> bool {
        match (signature.said.issuer_fingerprint, signature.said.issuer_id) {
            (Some(fingerprint), _) => fingerprint == self.fingerprint,
            (None, id) => id == Some(self.id()),
        }
    }

    /// Whether this key made the signature, over this content, with a hash that is accepted.
    pub(super) fn verifies(&self, signature: &Signature<'_>, content: &[&[u8]]) -> bool {
        let Ok(hash) = signature.hash else { return false };
        if signature.said.unknown_critical {
            return false;
        }
        let message = signature.message(content);
        let mut numbers = Reader(signature.numbers);
        let verified = match (&self.material, signature.algorithm) {
            (Material::Rsa { modulus, exponent }, RSA | RSA_SIGN_ONLY) => {
                numbers.mpi().and_then(|number| padded(number, modulus.len())).map(|number| {
                    let parameters = match hash {
                        Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                        Hash::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
                        Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
                    };
                    RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, &message, &number).is_ok()
                })
            }
            (Material::Ed25519(point), EDDSA_LEGACY) => numbers
                .mpi()
                .and_then(|r| Some([padded(r, 32)?, padded(numbers.mpi()?, 32)?].concat()))
                .map(|both| verify_ed25519(point, &digest(hash, &message), &both)),
            (Material::Ed25519(point), ED25519_NATIVE) => {
                numbers.take(64).map(|both| verify_ed25519(point, &digest(hash, &message), both))
            }
            _ => None,
        };
        verified.unwrap_or(false)
    }
}

fn read_legacy_point(mut reader: Reader<'_>) -> Option<[u8; 32]> {
    let length = usize::from(reader.byte()?);
    if reader.take(length)? != ED25519_CURVE {
        return None;
    }
    let (&NATIVE_POINT, point) = reader.mpi()?.split_first()? else { return None };
    point.try_into().ok()
}

/// EdDSA in OpenPGP signs the hash of the message, not the message.
fn verify_ed25519(point: &[u8; 32], digest: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, point).verify(digest, signature).is_ok()
}

fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
    }
}

/// A number with the leading zeros that a fixed length needs.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    Some([vec![0; zeros], number.to_vec()].concat())
}
