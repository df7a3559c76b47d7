//! An OpenPGP key that signs archives: Ed25519, version 4, as the writing half of what `gpg` does for archives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA512, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::now;

/// A key pair with its self-signature.
#[derive(Debug, Clone)]
pub struct SigningKey {
    seed: [u8; 32],
    created: u64,
    /// How long after its making it ends.
    expires_after: Option<u32>,
    revoked: bool,
}

const SIGNATURE: u8 = 2;
const PUBLIC_KEY: u8 = 6;
const USER_ID: u8 = 13;
const NAME: &[u8] = b"Archive of tests <test@example.org>";
/// The curve Ed25519 in OpenPGP's words.
const CURVE: &[u8] = &[9, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];
const EDDSA: u8 = 22;
const SHA512_ID: u8 = 10;
const DAY: u64 = 86_400;

impl SigningKey {
    /// A new key, a day old, without an end.
    #[must_use]
    pub fn new() -> Self {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).expect("the system has random numbers");
        Self { seed, created: now() - DAY, expires_after: None, revoked: false }
    }

    /// The same, ended an hour ago.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expires_after = Some(u32::try_from(DAY - 3600).expect("a day is short"));
        self
    }

    /// The same, revoked by its owner.
    #[must_use]
    pub fn revoked(mut self) -> Self {
        self.revoked = true;
        self
    }

    /// The key as archives hand it out: the binary form of a keyring.
    #[must_use]
    pub fn keyring(&self) -> Vec<u8> {
        let body = self.public_body();
        let mut keyring = packet(PUBLIC_KEY, &body);
        if self.revoked {
            keyring.extend(packet(SIGNATURE, &self.signature(0x20, self.created, &self.hashed_key(), &[])));
        }
        keyring.extend(packet(USER_ID, NAME));
        let mut certified = self.hashed_key();
        certified.push(0xb4);
        certified.extend((u32::try_from(NAME.len()).expect("a short name")).to_be_bytes());
        certified.extend_from_slice(NAME);
        let mut about_key = subpacket(27, &[0x03]);
        if let Some(seconds) = self.expires_after {
            about_key.extend(subpacket(9, &seconds.to_be_bytes()));
        }
        keyring.extend(packet(SIGNATURE, &self.signature(0x13, self.created, &certified, &about_key)));
        keyring
    }

    /// A text with its signature around it, as an `InRelease` file has it.
    #[must_use]
    pub fn sign_cleartext(&self, text: &str, created: u64) -> String {
        let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').map(str::trim_end).collect();
        let signature = packet(SIGNATURE, &self.signature(0x01, created, lines.join("\r\n").as_bytes(), &[]));
        let escaped: String = lines
            .iter()
            .map(|line| if line.starts_with('-') { format!("- {line}\n") } else { format!("{line}\n") })
            .collect();
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{escaped}{}", armor("SIGNATURE", &signature))
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("every seed is a key")
    }

    fn public_body(&self) -> Vec<u8> {
        let mut body = vec![4];
        body.extend(u32::try_from(self.created).expect("before 2106").to_be_bytes());
        body.push(EDDSA);
        body.extend_from_slice(CURVE);
        let mut point = vec![0x40];
        point.extend_from_slice(self.pair().public_key().as_ref());
        body.extend(mpi(&point));
        body
    }

    /// The key in the form in which it is hashed.
    fn hashed_key(&self) -> Vec<u8> {
        let body = self.public_body();
        let mut hashed = vec![0x99];
        hashed.extend(u16::try_from(body.len()).expect("a short key").to_be_bytes());
        hashed.extend(body);
        hashed
    }

    fn fingerprint(&self) -> Vec<u8> {
        digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &self.hashed_key()).as_ref().to_vec()
    }

    fn signature(&self, kind: u8, created: u64, content: &[u8], more: &[u8]) -> Vec<u8> {
        let mut hashed = subpacket(2, &u32::try_from(created).expect("before 2106").to_be_bytes());
        let fingerprint = self.fingerprint();
        hashed.extend(subpacket(33, &[&[4], fingerprint.as_slice()].concat()));
        hashed.extend_from_slice(more);
        let mut body = vec![4, kind, EDDSA, SHA512_ID];
        body.extend(u16::try_from(hashed.len()).expect("few subpackets").to_be_bytes());
        body.extend(hashed);
        let mut trailer = body.clone();
        trailer.extend([4, 0xff]);
        trailer.extend(u32::try_from(body.len()).expect("few subpackets").to_be_bytes());
        let hash = digest(&SHA512, &[content, &trailer].concat());
        let unhashed = subpacket(16, &fingerprint[12..]);
        body.extend(u16::try_from(unhashed.len()).expect("one subpacket").to_be_bytes());
        body.extend(unhashed);
        body.extend_from_slice(&hash.as_ref()[..2]);
        let signature = self.pair().sign(hash.as_ref());
        let (r, s) = signature.as_ref().split_at(32);
        body.extend(mpi(r));
        body.extend(mpi(s));
        body
    }
}

impl Default for SigningKey {
    fn default() -> Self {
        Self::new()
    }
}

/// OpenPGP data as text; `kind` is such as `SIGNATURE` or `PUBLIC KEY BLOCK`.
#[must_use]
pub fn armor(kind: &str, bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    let lines: Vec<String> =
        encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let sum = STANDARD.encode(&crc24(bytes).to_be_bytes()[1..]);
    format!("-----BEGIN PGP {kind}-----\n\n{}\n={sum}\n-----END PGP {kind}-----\n", lines.join("\n"))
}

/// The checksum of armored data; `gpg` wants it, newer programs do not.
fn crc24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x00b7_04ce, |sum, byte| {
        (0..8).fold(sum ^ (u32::from(*byte) << 16), |sum, _| {
            let shifted = sum << 1;
            if shifted & 0x0100_0000 == 0 { shifted } else { (shifted ^ 0x0186_4cfb) & 0x00ff_ffff }
        })
    })
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0 | tag, 0xff];
    packet.extend(u32::try_from(body.len()).expect("a short packet").to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

fn subpacket(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut subpacket = vec![u8::try_from(body.len() + 1).expect("a short subpacket"), kind];
    subpacket.extend_from_slice(body);
    subpacket
}

/// A number as OpenPGP writes it: without leading zeros, after its length in bits.
fn mpi(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let significant = &bytes[start..];
    let zeros = significant.first().map_or(0, |byte| byte.leading_zeros());
    let bits = u32::try_from(significant.len()).expect("a short number") * 8 - zeros;
    let mut mpi = u16::try_from(bits).expect("a short number").to_be_bytes().to_vec();
    mpi.extend_from_slice(significant);
    mpi
}
