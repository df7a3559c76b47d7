//! Debian archives: from names of packages to verified files.
pub mod deb822;
pub mod index;
pub mod openpgp;
pub mod order;
pub mod relation;
pub mod resolve;
pub mod version;
