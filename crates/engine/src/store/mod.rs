//! What pyro keeps on disk: where ([`home`]), how it is written so that a kill at any point loses nothing
//! ([`atomic`]), who may touch it now ([`lock`]), and who uses it ([`hold`]). Knows nothing of what the files mean,
//! only the shape of the records among them ([`environment_record`], [`workspace_record`]) and of what is only ever
//! appended to ([`journal`], [`output`]).

pub mod atomic;
pub mod environment_record;
pub mod hex;
pub mod hold;
pub mod home;
pub mod journal;
pub mod lock;
pub mod output;
pub mod sparse;
pub(crate) mod staging;
pub mod workspace_record;
