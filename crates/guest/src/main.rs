//! The pyro guest agent.
fn main() {}
