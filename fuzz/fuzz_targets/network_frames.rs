//! Frames of a guest, for the stack that reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pyro_network::trial::frames(bytes));
