//! Where the contents of environments come from. One folder or file a source.

pub mod debian;
