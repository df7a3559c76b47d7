//! Files from HTTP servers: resumed, retried, bounded, and proven by size and SHA-256 before they get their name.
//!
//! Every download may be dropped at any point: what arrived stays in a file ending in `.part`, which the next download of the
//! same file goes on with, and which is locked while one is under way. Leaves to its callers where a file's size and
//! digest come from.

mod error;
mod part;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use pyro_store::hex;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, NoProxy, Proxy, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

pub use error::FetchError;

pub(crate) use error::shown;

use crate::settings::ProxySettings;
use error::{disk, unreachable};
pub(super) use part::is_part;
use part::{Part, claim};

/// Fetches files. Cheap to keep, and better kept: it reuses connections.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    patience: Patience,
}

/// How long a server is waited for, and how often it is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the next bytes arrive.
    pub stall: Duration,
    /// Attempts in a row that bring nothing new before giving up.
    pub idle_attempts_max: u32,
    /// Pause after the first of these; each further one is twice as long, up to [`PAUSE_MAX`].
    pub first_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            idle_attempts_max: 4,
            first_pause: Duration::from_millis(300),
        }
    }
}

const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Attempts for one file, whatever they bring: a server that gives a byte at a time is not waited for for ever.
const ATTEMPTS_MAX: u32 = 100;

/// A file on a server, known beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Where it is.
    pub url: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
}

/// Receives how much of a file is here; may fall back when a download starts over.
pub type Got<'a> = &'a (dyn Fn(u64) + Send + Sync);

impl Fetcher {
    /// A client with these proxies and no others.
    ///
    /// # Errors
    /// [`FetchError::Setup`] when a proxy's URL is not valid.
    pub fn new(proxy: &ProxySettings) -> Result<Self, FetchError> {
        Self::with_patience(proxy, Patience::default())
    }

    /// A client with a patience of its own.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn with_patience(proxy: &ProxySettings, patience: Patience) -> Result<Self, FetchError> {
        // Fails when a provider is set already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let settings = || -> Result<_, FetchError> {
            // Also keeps the client from looking at the environment.
            let mut builder = Client::builder().no_proxy();
            for (url, make) in [(&proxy.http, Proxy::http as fn(_) -> _), (&proxy.https, Proxy::https)] {
                if let Some(url) = url {
                    let made: Proxy = make(url.as_str())
                        .map_err(|source| FetchError::Setup { what: format!("the proxy {}", shown(url)), source })?;
                    builder = builder.proxy(made.no_proxy(proxy.no_proxy.as_deref().and_then(NoProxy::from_string)));
                }
            }
            Ok(builder
                .user_agent(concat!("pyro/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(patience.connect)
                .read_timeout(patience.stall))
        };
        // A host without root certificates can still fetch over HTTP; HTTPS then fails by name.
        let client = match settings()?.build() {
            Ok(client) => client,
            Err(_) => settings()?
                .tls_certs_only([])
                .build()
                .map_err(|source| FetchError::Setup { what: "the HTTP client".to_owned(), source })?,
        };
        Ok(Self { client, patience })
    }

    /// Makes `path` the given file. One that is there already is checked and kept if it is good.
    ///
    /// # Errors
    /// [`FetchError`]; what arrived is kept for the next time unless it is wrong.
    pub async fn file(&self, remote: &RemoteFile, path: &Path, got: Got<'_>) -> Result<(), FetchError> {
        loop {
            if check_kept(remote, path).await? {
                got(remote.size_bytes);
                return Ok(());
            }
            let part = claim(path).await?;
            // Who held the part file before may have finished it.
            if !path.exists() {
                return self.finish(remote, path, part, got).await;
            }
            part.remove();
        }
    }

    async fn finish(&self, remote: &RemoteFile, path: &Path, mut part: Part, got: Got<'_>) -> Result<(), FetchError> {
        if part.length > remote.size_bytes {
            part.restart().await?;
        }
        loop {
            got(part.length);
            if let Err(error) = self.complete(remote, &mut part, got).await {
                if matches!(error, FetchError::Size { .. }) {
                    part.remove();
                }
                return Err(error);
            }
            let found = digest_of(&part.path).await?;
            if found == remote.sha256 {
                return std::fs::rename(&part.path, path).map_err(|source| disk(path, source));
            }
            if !part.pieced {
                part.remove();
                let (url, expected) = (shown(&remote.url), remote.sha256.clone());
                return Err(FetchError::Digest { url, expected, found });
            }
            // Some of it is from another time, perhaps of another file: the whole is what counts.
            part.restart().await?;
        }
    }

    /// Downloads until the part file has its full length.
    async fn complete(&self, remote: &RemoteFile, part: &mut Part, got: Got<'_>) -> Result<(), FetchError> {
        let mut idle = 0;
        let mut longest = part.length;
        for _ in 0..ATTEMPTS_MAX {
            if part.length == remote.size_bytes {
                break;
            }
            let outcome = self.attempt(remote, part, got).await;
            part.flush().await?;
            let Err(error) = outcome else { continue };
            if part.length > longest {
                (longest, idle) = (part.length, 0);
            }
            idle += 1;
            if !error.is_unreachable() || idle >= self.patience.idle_attempts_max {
                return Err(error);
            }
            self.pause(idle).await;
        }
        if part.length == remote.size_bytes { Ok(()) } else { Err(cut(remote, part.length)) }
    }

    /// One request; appends what comes.
    async fn attempt(&self, remote: &RemoteFile, part: &mut Part, got: Got<'_>) -> Result<(), FetchError> {
        let unreachable = |source| unreachable(&remote.url, source);
        let mut request = self.client.get(&remote.url);
        if part.length > 0 {
            request = request.header(RANGE, format!("bytes={}-", part.length));
            if let Some(validator) = &part.validator {
                request = request.header(IF_RANGE, validator);
            }
        }
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if goes_on_at(&response, part.length, remote.size_bytes) => part.pieced = true,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if part.length > 0 => {
                part.restart().await?;
                return Err(cut(remote, 0));
            }
            StatusCode::OK => part.restart().await?,
            status => return Err(FetchError::Status { url: shown(&remote.url), status }),
        }
        part.validator = validator(response.headers());
        let size = |found| FetchError::Size { url: shown(&remote.url), expected: remote.size_bytes, found };
        if let Some(found) = response.content_length().map(|length| part.length.saturating_add(length))
            && found != remote.size_bytes
        {
            return Err(size(found));
        }
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            let length = part.length + chunk.len() as u64;
            if length > remote.size_bytes {
                return Err(size(length));
            }
            part.file.write_all(&chunk).await.map_err(|source| disk(&part.path, source))?;
            part.length = length;
            got(length);
        }
        if part.length == remote.size_bytes { Ok(()) } else { Err(cut(remote, part.length)) }
    }

    /// Fetches a small file into memory.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn bytes(&self, url: &str, size_bytes_max: u64) -> Result<Vec<u8>, FetchError> {
        let mut attempts = 0;
        loop {
            let outcome = self.attempt_bytes(url, size_bytes_max).await;
            attempts += 1;
            match outcome {
                Err(error) if error.is_unreachable() && attempts < self.patience.idle_attempts_max => {
                    self.pause(attempts).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt_bytes(&self, url: &str, size_bytes_max: u64) -> Result<Vec<u8>, FetchError> {
        let unreachable = |source| unreachable(url, source);
        let mut response = self.client.get(url).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { url: shown(url), status: response.status() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() as u64 + chunk.len() as u64 > size_bytes_max {
                return Err(FetchError::TooLarge { url: shown(url), size_bytes_max });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Asks once for a file's head, and says how long the answer took.
    ///
    /// # Errors
    /// [`FetchError::Unreachable`] or [`FetchError::Status`].
    pub async fn probe(&self, url: &str, timeout: Duration) -> Result<Duration, FetchError> {
        let started = Instant::now();
        let request = self.client.head(url).timeout(timeout);
        let response = request.send().await.map_err(|source| unreachable(url, source))?;
        if response.status().is_success() {
            Ok(started.elapsed())
        } else {
            Err(FetchError::Status { url: shown(url), status: response.status() })
        }
    }

    async fn pause(&self, idle_attempts: u32) {
        let doubled = self.patience.first_pause.saturating_mul(1 << (idle_attempts.saturating_sub(1)).min(16));
        tokio::time::sleep(doubled.min(PAUSE_MAX)).await;
    }
}

/// Whether the file is here and good. A bad one is removed.
async fn check_kept(remote: &RemoteFile, path: &Path) -> Result<bool, FetchError> {
    let size = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(disk(path, source)),
        Ok(metadata) => metadata.len(),
    };
    if size == remote.size_bytes && digest_of(path).await? == remote.sha256 {
        return Ok(true);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(path, error)),
        _ => Ok(false),
    }
}

/// SHA-256 of a file, lower-case hex.
///
/// # Errors
/// [`FetchError::Disk`]
pub async fn digest_of(path: &Path) -> Result<String, FetchError> {
    let owned = path.to_owned();
    let digest = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(owned)?, &mut hasher)?;
        Ok(hex::encode(&hasher.finalize()))
    });
    // The task can only be cancelled with the whole runtime.
    digest.await.map_err(io::Error::other).flatten().map_err(|source| disk(path, source))
}

fn goes_on_at(response: &Response, length: u64, size_bytes: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let Some((span, total)) = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('/')) else {
        return false;
    };
    let start = span.split_once('-').and_then(|(start, _)| start.parse().ok());
    start == Some(length) && (total == "*" || total.parse() == Ok(size_bytes))
}

/// What `If-Range` may be asked with: a strong entity tag, or else the date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    text(ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(LAST_MODIFIED)).map(str::to_owned)
}

fn cut(remote: &RemoteFile, got: u64) -> FetchError {
    FetchError::Cut { url: shown(&remote.url), got, expected: remote.size_bytes }
}

#[cfg(test)]
mod tests;
