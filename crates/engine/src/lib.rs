//! What pyro does, without any face: environments, machines, workspaces.
//!
//! The rooms, and who may use whom: [`workspace`] (the operations) uses [`supervisor`] (a machine brought to life and
//! talked to), [`environment`] (root filesystems) and [`store`] (what is on disk); `supervisor` uses [`machine`] (one
//! microVM) and `store`; `environment` uses `store`; `machine` and `store` use nothing of ours.
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
