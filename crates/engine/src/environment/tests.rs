//! The door, on a cache in a temporary directory.
