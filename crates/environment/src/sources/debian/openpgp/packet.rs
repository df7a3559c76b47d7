//! OpenPGP's binary layer (RFC 9580, sections 4 and 5.2): packets, and what a signature packet says.

/// Reads from the front of bytes; `None` when they end too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// A packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

pub(super) const TAG_SIGNATURE: u8 = 2;
pub(super) const TAG_SECRET_KEY: u8 = 5;
pub(super) const TAG_PUBLIC_KEY: u8 = 6;
pub(super) const TAG_USER_ID: u8 = 13;
pub(super) const TAG_PUBLIC_SUBKEY: u8 = 14;
pub(super) const TAG_USER_ATTRIBUTE: u8 = 17;

/// Hash functions that signatures may use. All others are too weak, or too rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A version 4 signature.
#[derive(Debug, Clone)]
pub(super) struct Signature<'a> {
    pub(super) kind: u8,
    pub(super) algorithm: u8,
    /// The hash function, or the number of one that is not accepted.
    pub(super) hash: Result<Hash, u8>,
    /// The part that is hashed after the content.
    pub(super) hashed_part: &'a [u8],
    pub(super) said: Said<'a>,
    /// The signature itself, as the algorithm writes it.
    pub(super) numbers: &'a [u8],
}

/// What a signature's subpackets say. Everything but the issuer and the embedded signature, which prove themselves,
/// counts only where it is hashed.
#[derive(Debug, Clone, Default)]
pub(super) struct Said<'a> {
    pub(super) created: Option<u32>,
    pub(super) expires_after: Option<u32>,
    pub(super) key_expires_after: Option<u32>,
    pub(super) key_flags: Option<u8>,
    pub(super) issuer_id: Option<u64>,
    pub(super) issuer_fingerprint: Option<&'a [u8]>,
    pub(super) embedded: Option<&'a [u8]>,
    /// Something that must be understood and is not.
    pub(super) unknown_critical: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn number(&mut self, bytes: usize) -> Option<u32> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Takes what has its length in front, in so many bytes.
    fn prefixed(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(bytes)?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A multi-precision integer, without leading zeros.
    pub(super) fn mpi(&mut self) -> Option<&'a [u8]> {
        let bits = usize::try_from(self.number(2)?).ok()?;
        let bytes = self.take(bits.div_ceil(8))?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..)
    }

    /// The next packet; the outer `None` is the end, the inner one what is no packet.
    #[expect(
        clippy::option_option,
        reason = "the end and a broken packet differ, and there is nothing to say of the latter"
    )]
    pub(super) fn packet(&mut self) -> Option<Option<Packet<'a>>> {
        if self.0.is_empty() { None } else { Some(self.read_packet()) }
    }

    fn read_packet(&mut self) -> Option<Packet<'a>> {
        let first = self.byte().filter(|first| first & 0x80 != 0)?;
        if first & 0x40 == 0 {
            // The old form. Its fourth kind of length, "to the end", is not used by keys and signatures.
            let body = match first & 3 {
                0 => self.prefixed(1)?,
                1 => self.prefixed(2)?,
                2 => self.prefixed(4)?,
                _ => return None,
            };
            return Some(Packet { tag: first >> 2 & 0x0f, body });
        }
        let length = self.new_length(true)?;
        Some(Packet { tag: first & 0x3f, body: self.take(length)? })
    }

    /// A length in the newer form; 224 to 254 are partial lengths in packets, and two-byte ones in subpackets.
    fn new_length(&mut self, of_packet: bool) -> Option<usize> {
        let first = self.byte()?;
        let length = match first {
            0..192 => u32::from(first),
            224..255 if of_packet => return None,
            192..255 => ((u32::from(first) - 192) << 8) + self.number(1)? + 192,
            255 => self.number(4)?,
        };
        usize::try_from(length).ok()
    }
}

impl<'a> Signature<'a> {
    /// Reads the body of a signature packet; `None` for other versions and what is malformed.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version = reader.byte()?;
        let kind = reader.byte()?;
        let algorithm = reader.byte()?;
        let hash = match reader.byte()? {
            8 => Ok(Hash::Sha256),
            9 => Ok(Hash::Sha384),
            10 => Ok(Hash::Sha512),
            other => Err(other),
        };
        if version != 4 {
            return None;
        }
        let hashed = reader.prefixed(2)?;
        let hashed_part = body.get(..body.len() - reader.0.len())?;
        let unhashed = reader.prefixed(2)?;
        // The first two bytes of the hash, for a quick look that is not needed.
        reader.take(2)?;
        let mut said = Said::default();
        read_hashed(hashed, &mut said)?;
        read_unhashed(unhashed, &mut said)?;
        Some(Self { kind, algorithm, hash, hashed_part, said, numbers: reader.0 })
    }

    /// The bytes whose hash is signed.
    pub(super) fn message(&self, content: &[&[u8]]) -> Vec<u8> {
        let mut message = content.concat();
        message.extend_from_slice(self.hashed_part);
        message.extend_from_slice(&[4, 0xff]);
        message.extend_from_slice(&u32::try_from(self.hashed_part.len()).unwrap_or(u32::MAX).to_be_bytes());
        message
    }
}

fn subpacket<'a>(reader: &mut Reader<'a>) -> Option<(u8, Reader<'a>)> {
    let length = reader.new_length(false)?;
    let mut body = Reader(reader.take(length)?);
    Some((body.byte()?, body))
}

fn read_hashed<'a>(bytes: &'a [u8], said: &mut Said<'a>) -> Option<()> {
    const UNDERSTOOD_OR_HARMLESS: [u8; 17] = [4, 5, 6, 7, 10, 11, 12, 21, 22, 23, 24, 25, 26, 28, 29, 30, 34];
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let (kind, mut body) = subpacket(&mut reader)?;
        let critical = kind & 0x80 != 0;
        match kind & 0x7f {
            2 => said.created = Some(body.number(4)?),
            3 => said.expires_after = Some(body.number(4)?),
            9 => said.key_expires_after = Some(body.number(4)?),
            27 => said.key_flags = Some(body.byte().unwrap_or(0)),
            known @ (16 | 32 | 33) => read_self_proving(known, body, said)?,
            other => said.unknown_critical |= critical && !UNDERSTOOD_OR_HARMLESS.contains(&other),
        }
    }
    Some(())
}

fn read_unhashed<'a>(bytes: &'a [u8], said: &mut Said<'a>) -> Option<()> {
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let (kind, body) = subpacket(&mut reader)?;
        read_self_proving(kind & 0x7f, body, said)?;
    }
    Some(())
}

fn read_self_proving<'a>(kind: u8, mut body: Reader<'a>, said: &mut Said<'a>) -> Option<()> {
    match kind {
        16 => {
            let (high, low) = (body.number(4)?, body.number(4)?);
            said.issuer_id.get_or_insert(u64::from(high) << 32 | u64::from(low));
        }
        32 => {
            said.embedded.get_or_insert(body.0);
        }
        33 if body.byte()? == 4 => {
            said.issuer_fingerprint.get_or_insert(body.0);
        }
        _ => {}
    }
    Some(())
}
