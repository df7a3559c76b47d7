//! What pyro keeps on disk: where ([`home`]), how it is written so that a kill at any point loses nothing
//! ([`atomic`]), and who may touch it now ([`lock`]). Knows nothing of what the files mean,
//! only the shape of the records among them ([`environment_record`]).

pub mod atomic;
pub mod environment_record;
pub mod hex;
pub mod home;
pub mod lock;
pub mod sparse;
pub(crate) mod staging;
