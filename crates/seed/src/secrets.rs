//! Which files look as if they held secrets, by name and, where a name is not enough, by content.
//!
//! Left out of a seed unless the caller asks for them (`--seed-secrets`), and named either way. What git tracks is kept: a
//! missing test key would be a deletion in the guest's `git status` and break the tests that read it, and who tracks a
//! file has shared it already. An archive is kept whole: whoever packed it chose what is in it. A file that is both secret
//! and ignored (`.env` mostly is) comes with `--seed-secrets` alone, but not what lies in an ignored directory.

use super::tree::{name, parent};

/// Bytes of a file that are looked at where its name is not enough.
pub(super) const LOOK_BYTES: u64 = 1 << 20;

/// Why a file looks secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// What it looks like, as a noun.
    pub(super) reason: &'static str,
    /// What in its content clears it.
    pub(super) clearing: Clearing,
}

/// What in the content of a file says that it is none after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clearing {
    /// Nothing.
    Never,
    /// It holds certificates or public keys, and no private key.
    PublicOnly,
    /// It holds none of these words.
    Without(&'static [&'static str]),
}

enum Name {
    Is(&'static str),
    Starts(&'static str),
    Ends(&'static str),
    Between(&'static str, &'static str),
    /// A name in a directory of a name.
    In(&'static str, &'static str),
}

use Clearing::{Never, PublicOnly, Without};
use Name::{Between, Ends, In, Is, Starts};

const TABLE: [(Name, &str, Clearing); 44] = [
    (Is(".env"), "environment variables", Never),
    (Is(".envrc"), "environment variables", Never),
    (Starts(".env."), "environment variables", Never),
    (Starts(".env-"), "environment variables", Never),
    (Starts(".env_"), "environment variables", Never),
    (Ends(".env"), "environment variables", Never),
    (Starts("id_rsa"), "an SSH key", PublicOnly),
    (Starts("id_dsa"), "an SSH key", PublicOnly),
    (Starts("id_ecdsa"), "an SSH key", PublicOnly),
    (Starts("id_ed25519"), "an SSH key", PublicOnly),
    (Ends(".pem"), "a private key", PublicOnly),
    (Ends(".key"), "a private key", PublicOnly),
    (Ends(".ppk"), "a private key", Never),
    (Ends(".p8"), "a private key", PublicOnly),
    (Ends(".p12"), "a key store", Never),
    (Ends(".pfx"), "a key store", Never),
    (Ends(".jks"), "a key store", Never),
    (Ends(".keystore"), "a key store", Never),
    (Ends(".kdbx"), "a password store", Never),
    (Ends(".agekey"), "a private key", Never),
    (Is(".netrc"), "passwords", Never),
    (Is("_netrc"), "passwords", Never),
    (Is(".pgpass"), "passwords", Never),
    (Is(".my.cnf"), "passwords", Without(&["password"])),
    (Is(".htpasswd"), "password hashes", Never),
    (Is(".git-credentials"), "git credentials", Never),
    (Is(".npmrc"), "a registry token", Without(&["_auth", "_password"])),
    (Is(".yarnrc.yml"), "a registry token", Without(&["npmAuthToken", "npmAuthIdent"])),
    (Is(".pypirc"), "registry passwords", Never),
    (In(".cargo", "credentials.toml"), "registry tokens", Never),
    (In(".gem", "credentials"), "registry tokens", Never),
    (In(".docker", "config.json"), "registry passwords", Without(&["auth", "identitytoken"])),
    (Is(".dockercfg"), "registry passwords", Never),
    (Is(".dockerconfigjson"), "registry passwords", Never),
    (Is("credentials"), "credentials", Never),
    (Is(".credentials"), "credentials", Never),
    (Is("credentials.json"), "credentials", Never),
    (Between("service-account", ".json"), "cloud credentials", Without(&["private_key"])),
    (Between("service_account", ".json"), "cloud credentials", Without(&["private_key"])),
    (Is("application_default_credentials.json"), "cloud credentials", Never),
    (Is("kubeconfig"), "cluster credentials", Never),
    (Starts("kubeconfig."), "cluster credentials", Never),
    (In(".kube", "config"), "cluster credentials", Never),
    (Is(".vault-token"), "a token", Never),
];

/// Words that make a file an example for others to fill in.
const EXAMPLES: [&str; 6] = ["example", "sample", "template", "dist", "defaults", "schema"];

/// Whether the file at `path` looks secret by its name.
pub(super) fn suspicion(path: &[u8]) -> Option<Suspicion> {
    let own = name(path).to_ascii_lowercase();
    let dir = name(parent(path)).to_ascii_lowercase();
    let (_, reason, clearing) = TABLE.iter().find(|(pattern, ..)| match pattern {
        Is(name) => own == name.as_bytes(),
        Starts(start) => own.starts_with(start.as_bytes()),
        Ends(end) => own.ends_with(end.as_bytes()),
        Between(start, end) => own.starts_with(start.as_bytes()) && own.ends_with(end.as_bytes()),
        In(parent, name) => dir == parent.as_bytes() && own == name.as_bytes(),
    })?;
    if is_example(&own) || own.ends_with(b".pub") {
        return None;
    }
    Some(Suspicion { reason, clearing: *clearing })
}

/// Whether the beginning of a file's content clears it.
pub(super) fn is_cleared(clearing: Clearing, content: &[u8]) -> bool {
    let has = |word: &str| content.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
    match clearing {
        Never => false,
        PublicOnly => !has("PRIVATE KEY") && (has("BEGIN CERTIFICATE") || has("PUBLIC KEY-----") || has("ssh-")),
        Without(words) => !words.iter().any(|word| has(word)),
    }
}

/// `.env.example`, `sample.env`: one of the words stands alone between dots, dashes or underscores.
fn is_example(name: &[u8]) -> bool {
    name.split(|byte| b".-_".contains(byte)).any(|part| EXAMPLES.iter().any(|word| part == word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{Clearing, is_cleared, suspicion};

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(suspicion(path.as_bytes()).map(|found| found.reason), expected, "{path}");
    }

    #[test]
    fn names_that_look_secret() {
        check(".env", Some("environment variables"));
        check("app/.ENV.production", Some("environment variables"));
        check("deploy/prod.env", Some("environment variables"));
        check("home/.ssh/id_rsa", Some("an SSH key"));
        check("id_ed25519_work", Some("an SSH key"));
        check("certs/server.KEY", Some("a private key"));
        check(".aws/credentials", Some("credentials"));
        check(".kube/config", Some("cluster credentials"));
        check(".npmrc", Some("a registry token"));
    }

    #[test]
    fn names_that_only_resemble_them() {
        for path in [
            ".env.example",
            ".env.local.sample",
            "sample.env",
            "id_rsa.pub",
            "src/credentials.rs",
            "config",
            "environment",
            "keyring.rs",
            ".envoy.yaml",
            "docs/kubeconfig-how-to.md",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn content_clears_what_is_public() {
        let check = |clearing, content: &[u8], expected| assert_eq!(is_cleared(clearing, content), expected);
        check(Clearing::PublicOnly, b"-----BEGIN CERTIFICATE-----\n", true);
        check(Clearing::PublicOnly, b"-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----", false);
        check(Clearing::PublicOnly, b"\x30\x82", false);
        check(Clearing::Never, b"", false);
        check(Clearing::Without(&["_auth"]), b"registry=https://r.example\n", true);
        check(Clearing::Without(&["_auth"]), b"//r.example/:_authToken=x\n", false);
    }
}
