#!/bin/sh
# The main job, from a clean clone: a git that answers from inside a virtual machine.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null 2>&1; then
    echo 'try: cargo is missing; install Rust from https://rustup.rs, then try again' >&2
    exit 1
fi
scripts/install-qemu.sh
cargo build --release --locked -p pyro
pyro=${CARGO_TARGET_DIR:-target}/release/pyro

# A pull of what is installed already only says so.
"$pyro" env pull debian:12 >&2
echo '$ pyro run debian:12 -- git --version' >&2
exec "$pyro" run debian:12 -- git --version
