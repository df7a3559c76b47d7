//! Black-box tests of the pyro binary on real microVMs.
