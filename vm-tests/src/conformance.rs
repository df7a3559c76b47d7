//! Programs of others, and where they are: what `scripts/install-conformance.sh` installed, and our own scripts for them.

use std::path::{Path, PathBuf};

use crate::surroundings::target_dir;

/// Something that was installed; `name` is its place.
///
/// # Panics
/// It was not.
#[must_use]
pub fn installed(name: &str) -> String {
    let path = target_dir().join("conformance").join(name);
    assert!(path.exists(), "{} is not there: `make test` and `make smoke-hosts` install it", path.display());
    text(path)
}

/// A script of `conformance/`.
#[must_use]
pub fn script(name: &str) -> String {
    text(Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance").join(name))
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("paths of tests are text")
}
