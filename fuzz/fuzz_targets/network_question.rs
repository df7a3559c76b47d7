//! Questions for names, for the part that reads and answers them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pyro_network::trial::question(bytes));
