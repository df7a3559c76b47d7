//! Everything the engine can be told from outside. Filled in by the face; the engine itself reads no environment.

use std::path::PathBuf;

use crate::environment::Environments;
pub use crate::environment::settings::{CustomKernel, DebianArchive, DebianSuite, EnvironmentSettings, ProxySettings};
use crate::machine::AcceleratorChoice;
use crate::store::home::Home;

/// The engine's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Downloads, environments, kernels, templates: all can be made again.
    pub cache_dir: PathBuf,
    /// Workspaces: what is here exists nowhere else.
    pub state_dir: PathBuf,
    /// How machines are run.
    pub accelerator: AcceleratorChoice,
    /// The QEMU program: a name to look up in [`Settings::path_dirs`], or an absolute path.
    pub qemu_program: PathBuf,
    /// Directories to look programs up in (`PATH`).
    pub path_dirs: Vec<PathBuf>,
    /// Which environments there are, and where they come from.
    pub environment: EnvironmentSettings,
}

impl Settings {
    /// The environments of the cache. Nothing is read or created yet.
    #[must_use]
    pub fn environments(&self) -> Environments {
        Environments::new(Home::new(&self.cache_dir, &self.state_dir), &self.environment)
    }
}
