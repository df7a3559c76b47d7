//! Secrets on the command line: what a workspace is told, and what a command of it is given.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use pyro_engine::supervisor::secrets::{SHORTEST_BYTES, Secrets, VALUE_BYTES_MAX};

use super::super::Face;
use super::given;
use crate::failure::{Failure, Kind};

/// Secrets that a workspace is told.
#[derive(Args)]
pub(super) struct SecretArgs {
    /// A secret for commands of the workspace; may be repeated. Others on this computer see it among the processes while
    /// this command runs: --secret-file does not show it
    #[arg(long, value_name = "NAME=VALUE")]
    secret: Vec<OsString>,
    /// The same, read from a file without its last line break; - is standard input
    #[arg(long, value_name = "NAME=PATH")]
    secret_file: Vec<OsString>,
}

impl std::fmt::Debug for SecretArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretArgs").finish_non_exhaustive()
    }
}

impl SecretArgs {
    /// The secrets.
    ///
    /// # Errors
    /// One of them is none, or its file cannot be read.
    pub(super) fn read(self) -> Result<Secrets, Failure> {
        let mut secrets = Secrets::default();
        for word in self.secret {
            let (name, value) = named(&word, "--secret", "VALUE")?;
            secrets.insert(&name, value.as_bytes().to_vec().into())?;
        }
        read_files(&self.secret_file, &mut secrets)?;
        hide(&secrets)?;
        Ok(secrets)
    }
}

/// Says which secrets cannot be cut out of what is printed.
pub(crate) fn warn_of_short(secrets: &Secrets, face: &Face) {
    for name in secrets.too_short() {
        face.say(&format!(
            "the secret {name} has less than {SHORTEST_BYTES} bytes and is not cut out of what is printed"
        ));
    }
}

/// Adds what `NAME=PATH` of a flag names.
///
/// # Errors
/// As [`SecretArgs::read`].
pub(crate) fn read_files(words: &[OsString], secrets: &mut Secrets) -> Result<(), Failure> {
    for word in words {
        let (name, path) = named(word, "--secret-file", "PATH")?;
        // What is too long is told as such, whatever its last line break is.
        let mut value = given::read(None, Some(path.to_owned()), VALUE_BYTES_MAX as u64 + 2)?;
        if value.ends_with(b"\n") {
            value.pop();
            value.pop_if(|last| *last == b'\r');
        }
        secrets.insert(&name, value.into())?;
    }
    Ok(())
}

/// Keeps the memory of a process that holds secrets to itself.
///
/// # Errors
/// The kernel does not do that.
pub(crate) fn hide(secrets: &Secrets) -> Result<(), Failure> {
    secrets.hide().map_err(|error| {
        Failure::new(Kind::HostNotReady, "cannot keep this process's memory to itself").caused_by(error.to_string())
    })
}

/// Takes `NAME=…` apart. The words of a failure never hold what follows the sign: it may be a secret.
fn named<'a>(word: &'a OsStr, flag: &str, what: &str) -> Result<(String, &'a OsStr), Failure> {
    let bytes = word.as_bytes();
    let Some(middle) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err(Failure::new(Kind::Usage, format!("a {flag} has no '='")).hint(format!("write {flag} NAME={what}")));
    };
    let name = String::from_utf8_lossy(&bytes[..middle]).into_owned();
    Ok((name, OsStr::from_bytes(&bytes[middle + 1..])))
}

/// Reads `SECRET[=ENV]` of `--secret-env`: the secret, and the variable that is to hold it.
pub(super) fn grant(word: &str) -> Result<(String, String), &'static str> {
    let (secret, variable) = word.split_once('=').unwrap_or((word, word));
    if secret.is_empty() || variable.is_empty() || variable.contains('=') {
        return Err("write SECRET or SECRET=VARIABLE");
    }
    Ok((secret.to_owned(), variable.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{grant, named};

    #[test]
    fn a_failure_never_shows_a_value() {
        let failure = named("s3cr3t".as_ref(), "--secret", "VALUE").map(drop).unwrap_err();
        assert!(!format!("{failure:?}").contains("s3cr3t"));
        let (name, value) = named("A=b=c".as_ref(), "--secret", "VALUE").unwrap();
        assert_eq!((name.as_str(), value.to_str()), ("A", Some("b=c")));
    }

    #[test]
    fn a_grant_names_a_secret_and_a_variable() {
        assert_eq!(grant("TOKEN"), Ok(("TOKEN".to_owned(), "TOKEN".to_owned())));
        assert_eq!(grant("TOKEN=X"), Ok(("TOKEN".to_owned(), "X".to_owned())));
        assert!(grant("=X").is_err() && grant("TOKEN=").is_err() && grant("A=B=C").is_err());
    }
}
