//! The only reader of environment variables and of `config.toml`: from both come the engine's [`Settings`].
//!
//! A variable wins over the file, the file over the default. An empty variable counts as unset. A key or value that is
//! not understood is refused by name: a setting that is silently ignored is worse than none.

mod config;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use pyro_engine::environment::catalog::{Catalog, CatalogError};
use pyro_engine::machine::AcceleratorChoice;
use pyro_engine::settings::{CustomKernel, DebianArchive, DebianSuite, EnvironmentSettings, ProxySettings, Settings};
use pyro_engine::workspace::seed::GitUser;

use self::config::Config;

/// The guest agent, built by `build.rs`.
static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

const QEMU_PROGRAM: &str = "qemu-system-x86_64";
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// No variable says where to keep things.
    #[error("there is no place for pyro's files: {variable} and HOME are not set")]
    NoHome {
        /// The variable that would name it directly.
        variable: &'static str,
    },
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What the parser did not like.
        reason: String,
    },
    /// A key pyro does not know.
    #[error("{}: unknown key '{key}'", path.display())]
    UnknownKey {
        /// The configuration file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// The keys that there are, the nearest first.
        known: Vec<&'static str>,
    },
    /// The rows that a user adds to the catalog cannot be used.
    #[error("cannot use the catalog {}", path.display())]
    Catalog {
        /// The file with the rows.
        path: PathBuf,
        /// The cause.
        #[source]
        source: CatalogError,
    },
    /// A value out of its range.
    #[error("{origin} is '{value}', expected {expected}")]
    BadValue {
        /// The variable, or the file and key.
        origin: String,
        /// What was found.
        value: String,
        /// What may be there.
        expected: &'static str,
    },
}

/// What the terminal's variables say; needed before, and without, the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TerminalWishes {
    /// `NO_COLOR` is set.
    pub(crate) no_color: bool,
    /// `TERM` is `dumb`: no cursor movement.
    pub(crate) dumb: bool,
}

/// Reads what the terminal's variables say.
pub(crate) fn terminal_wishes() -> TerminalWishes {
    let variables = Variables(&process_variable);
    TerminalWishes {
        no_color: variables.value("NO_COLOR").is_some(),
        dumb: variables.value("TERM").is_some_and(|term| term == "dumb"),
    }
}

/// What of the user's own git configuration a seeded repository gets: who commits, and what is ignored everywhere.
pub(crate) fn git_user() -> GitUser {
    let variables = Variables(&process_variable);
    let home = variables.value("HOME").map(PathBuf::from);
    let xdg = variables.value("XDG_CONFIG_HOME").map(PathBuf::from);
    let config_dir = xdg.or_else(|| home.as_ref().map(|home| home.join(".config")));
    let mut files = vec![PathBuf::from("/etc/gitconfig")];
    files.extend(config_dir.as_ref().map(|dir| dir.join("git/config")));
    files.extend(home.as_ref().map(|home| home.join(".gitconfig")));
    let mut user = GitUser::read(&files, home.as_deref());
    // The place that git looks at when nothing is configured.
    user.excludes = user.excludes.or_else(|| config_dir.map(|dir| dir.join("git/ignore")));
    user
}

/// Where chat hosts keep their configuration, as far as the environment says.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChatHostDirs {
    /// The user's home.
    pub(crate) home: Option<PathBuf>,
    /// Claude Code's directory, where it was moved.
    pub(crate) claude: Option<PathBuf>,
    /// Codex's directory, where it was moved.
    pub(crate) codex: Option<PathBuf>,
    /// The directory of configurations, where it was moved.
    pub(crate) config: Option<PathBuf>,
    /// The few variables that Codex passes on to a server.
    pub(crate) few_variables: Vec<(OsString, OsString)>,
}

/// What of the environment Codex passes on to the servers it starts.
const FEW_VARIABLES: [&str; 10] =
    ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"];

/// Reads where chat hosts keep their configuration.
pub(crate) fn chat_host_dirs() -> ChatHostDirs {
    let variables = Variables(&process_variable);
    let dir = |name| variables.value(name).map(|value| absolute(Path::new(&value)));
    let few = FEW_VARIABLES.iter().filter_map(|name| Some((OsString::from(name), variables.value(name)?)));
    ChatHostDirs {
        home: dir("HOME"),
        claude: dir("CLAUDE_CONFIG_DIR"),
        codex: dir("CODEX_HOME"),
        // The XDG specification says to ignore a relative path.
        config: variables.value("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute()),
        few_variables: few.collect(),
    }
}

/// The session of the chat host that started this process, where it says so.
pub(crate) fn chat_session() -> Option<String> {
    Variables(&process_variable).value("CLAUDE_CODE_SESSION_ID").and_then(|value| value.into_string().ok())
}

/// Reads the settings of this process.
///
/// # Errors
/// See [`SettingsError`]; nothing was changed.
pub(crate) fn load() -> Result<Settings, SettingsError> {
    load_from(&Variables(&process_variable))
}

#[expect(clippy::disallowed_methods, reason = "this file is the one that reads the environment")]
fn process_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Environment variables, so that a test can bring its own.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn value(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        value.into_string().map(Some).map_err(|value| SettingsError::BadValue {
            origin: name.to_owned(),
            value: value.to_string_lossy().into_owned(),
            expected: "text in UTF-8",
        })
    }

    /// A directory from `variable`, else `pyro` under the one in `xdg`, else under `fallback` in the home directory.
    fn directory(&self, [variable, xdg, fallback]: [&'static str; 3]) -> Result<PathBuf, SettingsError> {
        if let Some(value) = self.value(variable) {
            return Ok(absolute(Path::new(&value)));
        }
        // The XDG specification says to ignore a relative path.
        let base = self.value(xdg).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = base.or_else(|| self.value("HOME").map(|home| absolute(Path::new(&home)).join(fallback)));
        base.map(|base| base.join("pyro")).ok_or(SettingsError::NoHome { variable })
    }

    fn proxy(&self, [lower, upper]: [&'static str; 2]) -> Result<Option<String>, SettingsError> {
        Ok(self.text(lower)?.or(self.text(upper)?))
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn load_from(variables: &Variables<'_>) -> Result<Settings, SettingsError> {
    let config = Config::find(variables)?;
    let place = |names: [&'static str; 3], key| -> Result<PathBuf, SettingsError> {
        let configured = if variables.value(names[0]).is_some() { None } else { config.path(key)? };
        configured.map_or_else(|| variables.directory(names), Ok)
    };
    let all_proxy = variables.proxy(["all_proxy", "ALL_PROXY"])?;
    let path = variables.value("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
    Ok(Settings {
        cache_dir: place(["PYRO_CACHE_DIR", "XDG_CACHE_HOME", ".cache"], "cache_dir")?,
        state_dir: place(["PYRO_STATE_DIR", "XDG_STATE_HOME", ".local/state"], "state_dir")?,
        accelerator: accelerator(variables, &config)?,
        qemu_program: config.text("qemu")?.unwrap_or_else(|| QEMU_PROGRAM.to_owned()).into(),
        path_dirs: std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect(),
        environment: EnvironmentSettings {
            kernel: kernel(&config)?,
            catalog: catalog(&config)?,
            debian: debian(variables, &config)?,
            proxy: ProxySettings {
                http: variables.proxy(["http_proxy", "HTTP_PROXY"])?.or_else(|| all_proxy.clone()),
                https: variables.proxy(["https_proxy", "HTTPS_PROXY"])?.or(all_proxy),
                no_proxy: variables.proxy(["no_proxy", "NO_PROXY"])?,
            },
            agent: AGENT,
            pyro_version: env!("CARGO_PKG_VERSION"),
        },
    })
}

fn accelerator(variables: &Variables<'_>, config: &Config) -> Result<AcceleratorChoice, SettingsError> {
    let (origin, value) = match variables.text("PYRO_ACCELERATOR")? {
        Some(value) => ("PYRO_ACCELERATOR".to_owned(), value),
        None => match config.text("accelerator")? {
            Some(value) => (config.origin("accelerator"), value),
            None => return Ok(AcceleratorChoice::Auto),
        },
    };
    match value.as_str() {
        "auto" => Ok(AcceleratorChoice::Auto),
        "kvm" => Ok(AcceleratorChoice::Kvm),
        "tcg" => Ok(AcceleratorChoice::Tcg),
        _ => Err(SettingsError::BadValue { origin, value, expected: "auto, kvm or tcg" }),
    }
}

fn catalog(config: &Config) -> Result<Catalog, SettingsError> {
    let Some(path) = config.path("catalog")? else { return Ok(Catalog::builtin()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Catalog::builtin().with(&text).map_err(|source| SettingsError::Catalog { path, source }),
        Err(source) => Err(SettingsError::Unreadable { path, source }),
    }
}

fn kernel(config: &Config) -> Result<Option<CustomKernel>, SettingsError> {
    let modules_dir = config.path("kernel.modules")?;
    match config.path("kernel.image")? {
        Some(image) => Ok(Some(CustomKernel { image, modules_dir })),
        None if modules_dir.is_some() => Err(SettingsError::BadValue {
            origin: config.origin("kernel.image"),
            value: String::new(),
            expected: "the kernel that kernel.modules belongs to",
        }),
        None => Ok(None),
    }
}

/// A mirror is named as in `sources.list`: the directory that holds `dists`. Its security archive is beside it, named
/// as Debian names it; a mirror of another name is taken to hold both. So no host is asked that the user did not name.
fn debian(variables: &Variables<'_>, config: &Config) -> Result<DebianArchive, SettingsError> {
    let url = |variable: &'static str, key| -> Result<Option<String>, SettingsError> {
        let (origin, value) = match variables.text(variable)? {
            Some(value) => (variable.to_owned(), Some(value)),
            None => (config.origin(key), config.text(key)?),
        };
        match value {
            Some(value) if !value.starts_with("http://") && !value.starts_with("https://") => {
                Err(SettingsError::BadValue { origin, value, expected: "a URL that starts with http:// or https://" })
            }
            value => Ok(value.map(|value| value.trim_end_matches('/').to_owned())),
        }
    };
    let mirror_url = url("PYRO_DEBIAN_MIRROR", "debian.mirror")?;
    let security_url = url("PYRO_DEBIAN_SECURITY_MIRROR", "debian.security_mirror")?;
    let mut archive = DebianArchive::default();
    if let Some(mirror_url) = mirror_url {
        let with_suffix = if mirror_url.ends_with("/debian") { "-security" } else { "" };
        archive.security_url = format!("{mirror_url}{with_suffix}");
        archive.mirror_url = mirror_url;
    }
    if let Some(security_url) = security_url {
        archive.security_url = security_url;
    }
    archive.keyring_path = match variables.value("PYRO_DEBIAN_KEYRING") {
        Some(path) => Some(absolute(Path::new(&path))),
        None => config.path("debian.keyring")?,
    };
    if let Some(suites) = suites(variables, config)? {
        archive.suites = suites;
    }
    Ok(archive)
}

/// The suites, as words between commas.
fn suites(variables: &Variables<'_>, config: &Config) -> Result<Option<Vec<DebianSuite>>, SettingsError> {
    let (origin, value) = match variables.text("PYRO_DEBIAN_SUITES")? {
        Some(value) => ("PYRO_DEBIAN_SUITES".to_owned(), value),
        None => match config.text("debian.suites")? {
            Some(value) => (config.origin("debian.suites"), value),
            None => return Ok(None),
        },
    };
    let suite = |word: &str| match word.trim() {
        "release" => Some(DebianSuite::Release),
        "updates" => Some(DebianSuite::Updates),
        "security" => Some(DebianSuite::Security),
        _ => None,
    };
    let suites: Option<Vec<_>> = value.split(',').map(suite).collect();
    let suites = suites.filter(|suites| suites.contains(&DebianSuite::Release));
    let expected = "'release', with or without ',updates' and ',security'";
    suites.map(Some).ok_or(SettingsError::BadValue { origin, value, expected })
}

#[cfg(test)]
mod tests;
