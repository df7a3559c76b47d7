//! What pyro keeps on disk: where ([`home`]), how it is written so that a kill at any point loses nothing
//! ([`atomic`], [`staging`]), who may touch it now ([`lock`]), and who uses it ([`hold`]). Knows nothing of what the files mean,
//! only the shape of the records among them ([`crossing_record`], [`environment_record`], [`host_record`], [`shell_record`],
//! [`workspace_record`]) and of what is only ever appended to ([`crossings`], [`journal`], [`output`], [`transcript`]).

pub mod atomic;
pub mod crossing_record;
pub mod crossings;
pub mod disk_record;
pub mod environment_record;
pub mod hex;
pub mod hold;
pub mod home;
pub mod host_record;
pub mod journal;
pub mod lock;
pub mod output;
pub mod service_log;
pub mod service_record;
pub mod shell_record;
pub mod sparse;
pub mod staging;
pub mod transcript;
pub mod workspace_record;
