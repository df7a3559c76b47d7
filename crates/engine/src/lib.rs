//! What pyro does, without any face: environments, machines, workspaces.
//!
//! Two rooms: [`workspace`] (the operations) uses [`supervisor`] (a machine brought to life and talked to). What they stand on
//! are crates of their own, shown here as rooms so that a face depends on this crate alone: [`environment`] (root
//! filesystems), [`machine`] (one microVM), [`store`] (what is on disk), and [`workspace::seed`] (what a workspace begins with).
//!
//! Deliberately absent: command-line flags, printing, environment variables, `$HOME`. A face passes [`Settings`] in and
//! gets values, errors and [`progress`] back.

pub mod settings;
pub mod supervisor;
pub mod workspace;

pub use pyro_environment as environment;
pub use pyro_environment::progress;
pub use pyro_machine as machine;
pub use pyro_store as store;
pub use settings::Settings;
