//! Files that are not whole yet: who works on one holds its lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::error::{FetchError, disk};

/// How often a file that another process is downloading is looked at.
const CLAIM_PAUSE: Duration = Duration::from_millis(100);

/// A file that is not whole yet, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) file: tokio::fs::File,
    pub(super) length: u64,
    /// What the server called this state of the file, if it was asked in this process.
    pub(super) validator: Option<String>,
    /// Whether it was put together from more than one answer.
    pub(super) pieced: bool,
}

impl Part {
    pub(super) async fn restart(&mut self) -> Result<(), FetchError> {
        self.flush().await?;
        let emptied = async {
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        emptied.await.map_err(|source| disk(&self.path, source))?;
        (self.length, self.validator, self.pieced) = (0, None, false);
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), FetchError> {
        self.file.flush().await.map_err(|source| disk(&self.path, source))
    }

    pub(super) fn remove(&self) {
        // What is wrong with the content is what is reported; a file left here would fail the next check as well.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Whether a file is a part of another.
pub(crate) fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// Opens and locks the part file of `path`, waiting for another process or task that has it.
pub(super) async fn claim(path: &Path) -> Result<Part, FetchError> {
    let mut part_name = path.as_os_str().to_owned();
    part_name.push(".part");
    let part_path = PathBuf::from(part_name);
    loop {
        match try_claim(&part_path).map_err(|source| disk(&part_path, source))? {
            Some((file, length)) => {
                let mut file = tokio::fs::File::from_std(file);
                file.seek(io::SeekFrom::End(0)).await.map_err(|source| disk(&part_path, source))?;
                return Ok(Part { path: part_path, file, length, validator: None, pieced: length > 0 });
            }
            None => tokio::time::sleep(CLAIM_PAUSE).await,
        }
    }
}

/// `None` when another holds it, or when it got its final name between opening and locking.
fn try_claim(part_path: &Path) -> io::Result<Option<(File, u64)>> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(part_path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let ours = file.metadata()?;
    let named = match std::fs::metadata(part_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        named => named?,
    };
    Ok(((named.dev(), named.ino()) == (ours.dev(), ours.ino())).then_some((file, ours.len())))
}
