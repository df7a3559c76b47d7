//! The secrets of a workspace, in the memory of its supervisor and nowhere else on the host.
//!
//! They come over the supervisor's standard input, which is a pipe from whoever starts it ([`Secrets::send`],
//! [`Secrets::receive`]), so that no argument, variable or file ever holds one. They leave it in one way only: in the
//! environment of a command, shell or service that one was given to. What comes back from the guest is stripped of all
//! of their [`forms`] before it is written down or passed on ([`redactor`]). Nothing answers with a value, and no value can
//! be printed: the types here do not show theirs.

mod forms;
mod look;
mod redactor;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use pyro_wire::FaultKind;
use pyro_wire::exec::Word;
use zeroize::Zeroizing;

use super::protocol::{Refusal, RefusalKind, ServerMessage};
use crate::store::crossing_record::Crossing;
use crate::store::crossings::Crossings;

pub use self::forms::SHORTEST_BYTES;
pub(super) use self::look::look;
pub use self::redactor::{RedactedStream, Redactor};

/// Most secrets of a workspace.
pub const SECRETS_MAX: usize = 64;

/// Longest name.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest value.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of all values of a workspace.
pub const VALUES_BYTES_MAX: usize = 256 * 1024;

/// Most bytes in which they are sent to a supervisor: values, names, and a length before each.
pub(super) const MESSAGE_BYTES_MAX: usize = VALUES_BYTES_MAX + SECRETS_MAX * (NAME_BYTES_MAX + 8);

/// Secrets by name.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// Why something is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Its name is none.
    #[error("'{name}' is no name of a secret")]
    Name {
        /// The name, as far as it is worth showing.
        name: String,
    },
    /// There is one of that name.
    #[error("the secret {name} is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// Its value is empty.
    #[error("the secret {name} is empty")]
    Empty {
        /// The name.
        name: String,
    },
    /// Its value is too long.
    #[error("the secret {name} has more than {VALUE_BYTES_MAX} bytes")]
    TooLong {
        /// The name.
        name: String,
    },
    /// No variable can hold it.
    #[error("the secret {name} holds a zero byte, which no variable can")]
    ZeroByte {
        /// The name.
        name: String,
    },
    /// There are too many, or they are too long together.
    #[error("a workspace has {SECRETS_MAX} secrets and {VALUES_BYTES_MAX} bytes of them at most")]
    TooMany,
}

impl Secrets {
    /// Adds one.
    ///
    /// # Errors
    /// See [`BadSecret`].
    pub fn insert(&mut self, name: &str, value: Zeroizing<Vec<u8>>) -> Result<(), BadSecret> {
        check_name(name)?;
        let name = name.to_owned();
        if self.values.contains_key(&name) {
            return Err(BadSecret::Twice { name });
        }
        match value.len() {
            0 => return Err(BadSecret::Empty { name }),
            length if length > VALUE_BYTES_MAX => return Err(BadSecret::TooLong { name }),
            _ if value.contains(&0) => return Err(BadSecret::ZeroByte { name }),
            _ => {}
        }
        let bytes: usize = self.values.values().map(|value| value.len()).sum();
        if self.values.len() >= SECRETS_MAX || bytes + value.len() > VALUES_BYTES_MAX {
            return Err(BadSecret::TooMany);
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// Those of them that have one of these names.
    #[must_use]
    pub fn named(&self, names: &BTreeSet<String>) -> Self {
        let named = self.values.iter().filter(|(name, _)| names.contains(*name));
        Self { values: named.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// Sees to it that this process, if it holds any, leaves no image of its memory behind, and lets nobody look into it.
    ///
    /// # Errors
    /// As the system call.
    pub fn hide(&self) -> io::Result<()> {
        if !self.is_empty() {
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        }
        Ok(())
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Those of these names that are not among them.
    #[must_use]
    pub fn missing(&self, names: &BTreeSet<String>) -> Vec<String> {
        names.iter().filter(|name| !self.values.contains_key(*name)).cloned().collect()
    }

    /// Names of those that are too short to be looked for in what is printed.
    pub fn too_short(&self) -> impl Iterator<Item = &str> {
        let short = self.values.iter().filter(|(_, value)| value.len() < SHORTEST_BYTES);
        short.map(|(name, _)| name.as_str())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Sends them to a supervisor that is being started.
    ///
    /// # Errors
    /// It is gone.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        for (name, value) in &self.values {
            for part in [name.as_bytes(), value.as_slice()] {
                to.write_all(&u32::try_from(part.len()).map_err(io::Error::other)?.to_le_bytes())?;
                to.write_all(part)?;
            }
        }
        Ok(())
    }

    /// Receives all that is sent until the other end is closed.
    ///
    /// # Errors
    /// It is not what [`Self::send`] sends.
    pub fn receive(from: &mut impl Read) -> io::Result<Self> {
        let mut secrets = Self::default();
        while let Some(name) = part(from, NAME_BYTES_MAX)? {
            let value = part(from, VALUE_BYTES_MAX)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let name = std::str::from_utf8(&name).map_err(io::Error::other)?;
            secrets.insert(name, value).map_err(io::Error::other)?;
        }
        Ok(secrets)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// `^[A-Za-z_][A-Za-z0-9_]{0,63}$`, as of a variable.
///
/// # Errors
/// It is another word.
pub fn check_name(name: &str) -> Result<(), BadSecret> {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(BadSecret::Name { name: name.chars().take(80).collect() })
}

/// A length and so many bytes; none at the end.
fn part(from: &mut impl Read, bytes_max: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut length = [0; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        count => from.read_exact(&mut length[count..])?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// The secrets that a supervisor knows, and what cuts them out of everything.
#[derive(Debug, Clone)]
pub struct Vault {
    secrets: Arc<Secrets>,
    redactor: Arc<Redactor>,
}

impl Vault {
    /// Keeps these.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        let marks = secrets.names().map(|name| format!("[secret {name}]").into_bytes()).collect();
        let mut patterns = Vec::new();
        for (owner, value) in (0..).zip(secrets.values.values()) {
            patterns.extend(forms::forms(value).into_iter().map(|form| (owner, form)));
        }
        let redactor = Redactor::new(marks, &patterns);
        Self { secrets: Arc::new(secrets), redactor: Arc::new(redactor) }
    }

    /// Names of those that are known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.secrets.names()
    }

    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The value of one, to be given to something that runs in the guest.
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.secrets.values.get(name).map(|value| value.as_slice())
    }

    /// Gives secrets to something that runs in the guest: writes down that each is given, and adds it to the variables. `to`
    /// says what it is.
    ///
    /// # Errors
    /// One of them is not known, or its variable is there already, or that it is given cannot be written down.
    pub(super) fn grant(
        &self,
        crossings: &Crossings,
        secret_env: &BTreeMap<String, String>,
        to: &str,
        env: &mut BTreeMap<String, Word>,
    ) -> Result<(), Refusal> {
        for (variable, secret) in secret_env {
            let value = self.value(secret).ok_or_else(|| self.unknown(secret))?;
            if env.insert(variable.clone(), Word::from(value.to_vec())).is_some() {
                let words = format!("the variable {variable} is given twice, once as a secret");
                return Err(Refusal::new(RefusalKind::Fault(FaultKind::InvalidArgument), words));
            }
            let (secret, variable, to) = (secret.clone(), variable.clone(), to.to_owned());
            crossings.append(Crossing::SecretGrant { secret, variable, to }).map_err(|error| {
                Refusal::new(RefusalKind::Host, format!("cannot write down that a secret is given: {error}"))
            })?;
        }
        Ok(())
    }

    fn unknown(&self, secret: &str) -> Refusal {
        let known: Vec<&str> = self.names().collect();
        let known = if known.is_empty() { String::new() } else { format!("; it knows {}", known.join(", ")) };
        let name: String = secret.chars().take(NAME_BYTES_MAX).collect();
        Refusal::new(RefusalKind::Secret, format!("the workspace's supervisor knows no secret {name}{known}"))
    }

    /// A refusal without secrets, as a message.
    pub(super) fn refused(&self, refusal: Refusal) -> ServerMessage {
        ServerMessage::Refused { refusal: Refusal { message: self.cut(&refusal.message), ..refusal } }
    }

    /// Begins a stream out of which they are cut; none where there is nothing to cut out.
    #[must_use]
    pub fn stream(&self) -> Option<RedactedStream> {
        (!self.is_empty()).then(|| self.redactor.stream())
    }

    /// Bytes without them.
    #[must_use]
    pub fn cut_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let Some(mut stream) = self.stream() else { return bytes.to_vec() };
        let mut cut = stream.push(bytes);
        cut.extend(stream.finish());
        cut
    }

    /// A text without them.
    #[must_use]
    pub fn cut(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.cut_bytes(text.as_bytes())).into_owned()
    }

    /// Whose are in these bytes.
    #[cfg(test)]
    pub(crate) fn find(&self, bytes: &[u8]) -> Vec<String> {
        let Some(mut stream) = self.stream() else { return Vec::new() };
        drop(stream.push(bytes));
        self.found(&stream)
    }

    /// Whose were found by a stream.
    #[must_use]
    pub fn found(&self, stream: &RedactedStream) -> Vec<String> {
        (0..).zip(self.names()).filter(|(owner, _)| stream.found(*owner)).map(|(_, name)| name.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BadSecret, Secrets, VALUE_BYTES_MAX, VALUES_BYTES_MAX, Vault};

    fn secrets(all: &[(&str, &[u8])]) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in all {
            secrets.insert(name, value.to_vec().into()).unwrap();
        }
        secrets
    }

    #[test]
    fn what_is_sent_is_received() {
        let sent = secrets(&[("A", b"one"), ("_b2", &[0xff; VALUE_BYTES_MAX])]);
        let mut pipe = Vec::new();
        sent.send(&mut pipe).unwrap();
        let received = Secrets::receive(&mut pipe.as_slice()).unwrap();
        assert!(received.values == sent.values);
        assert!(Secrets::receive(&mut &b""[..]).unwrap().is_empty());
        assert!(Secrets::receive(&mut &pipe[..pipe.len() - 1]).is_err());
        assert!(Secrets::receive(&mut &[255; 8][..]).is_err());
        assert_eq!(format!("{sent:?}"), r#"{"A", "_b2"}"#);
        let names = ["A".to_owned(), "C".to_owned()].into();
        assert_eq!((sent.missing(&names), sent.named(&names).names().count()), (vec!["C".to_owned()], 1));
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_by_name() {
        let mut all = Secrets::default();
        let mut refused = |name: &str, value: &[u8]| all.insert(name, value.to_vec().into()).unwrap_err();
        for name in ["", "1A", "A-B", "A=B", &"x".repeat(65)] {
            assert!(matches!(refused(name, b"x"), BadSecret::Name { .. }), "{name}");
        }
        assert!(matches!(refused("A", b""), BadSecret::Empty { .. }));
        assert!(matches!(refused("A", b"a\0b"), BadSecret::ZeroByte { .. }));
        assert!(matches!(refused("A", &[1; VALUE_BYTES_MAX + 1]), BadSecret::TooLong { .. }));
        all.insert("A", b"x".to_vec().into()).unwrap();
        assert_eq!(all.insert("A", b"y".to_vec().into()), Err(BadSecret::Twice { name: "A".to_owned() }));
        for number in 0..(VALUES_BYTES_MAX / VALUE_BYTES_MAX - 1) {
            all.insert(&format!("B{number}"), vec![1; VALUE_BYTES_MAX].into()).unwrap();
        }
        assert_eq!(all.insert("C", vec![1; VALUE_BYTES_MAX].into()), Err(BadSecret::TooMany));
        assert_eq!(all.too_short().collect::<Vec<_>>(), ["A"]);
    }

    #[test]
    fn each_secret_is_called_by_its_name() {
        let vault = Vault::new(secrets(&[("ONE", b"first"), ("TWO", b"second")]));
        assert_eq!(vault.cut("first, c2Vjb25k!"), "[secret ONE], [secret TWO]!");
        let mut stream = vault.stream().unwrap();
        drop(stream.push(b"a second"));
        assert_eq!(vault.found(&stream), ["TWO"]);
        let none = Vault::new(Secrets::default());
        assert!(none.stream().is_none() && none.cut("x") == "x");
    }

    fn encoded(value: &[u8], form: usize, before: usize) -> Vec<u8> {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};
        let longer = [&b"xyz"[..before], value, b"after"].concat();
        match form {
            0 => value.to_vec(),
            1 => STANDARD.encode(longer).into_bytes(),
            2 => URL_SAFE.encode(longer).into_bytes(),
            3 => crate::store::hex::encode(value).into_bytes(),
            4 => value.iter().map(|byte| format!("%{byte:02X}")).collect::<String>().into_bytes(),
            _ => STANDARD.encode(value).into_bytes(),
        }
    }

    fn contains(text: &[u8], part: &[u8]) -> bool {
        text.windows(part.len()).any(|window| window == part)
    }

    proptest! {
        /// Whatever is printed around it, in whatever pieces it comes: neither the value nor what it is encoded as survives.
        #[test]
        fn no_form_survives(
            value in prop::collection::vec(1_u8..=255, 8..100),
            form in 0_usize..6,
            before in 0_usize..3,
            noise in prop::collection::vec(any::<u8>(), 0..40),
            piece in 1_usize..20,
        ) {
            let vault = Vault::new(secrets(&[("S", &value)]));
            let printed = encoded(&value, form, before);
            let mut stream = vault.stream().unwrap();
            let mut out = Vec::new();
            for bytes in [&noise[..], &printed, &noise].concat().chunks(piece) {
                out.extend(stream.push(bytes));
            }
            out.extend(stream.finish());
            prop_assert!(!contains(&out, &value) && !contains(&out, &printed), "form {}", form);
            prop_assert!(contains(&out, b"[secret S]"));
            prop_assert!(!vault.found(&stream).is_empty());
        }
    }
}
