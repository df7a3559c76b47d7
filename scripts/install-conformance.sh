#!/bin/sh
# Installs the programs of others that the server is proven with, in their pinned versions, below target/conformance/:
# `clients`, the official clients of MCP (300 MB), or `hosts`, the chat hosts (1 GB). What is there already is left
# alone. Node.js, npm, Python and, for the tests of networks, ip come from apt where they are missing; elsewhere it says
# what is needed.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'install-conformance: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

main() {
    what=${1:-}
    from=conformance/$what
    [ -n "$what" ] && [ -f "$from/package-lock.json" ] || die "wrong use: scripts/install-conformance.sh clients|hosts"
    [ "$what" = hosts ] || have ip || packages iproute2
    into=${CARGO_TARGET_DIR:-target}/conformance/$what
    mkdir -p "$into"
    # Two at once would write into the same directory.
    exec 9>"$into.lock"
    flock 9
    if cat "$from"/package-lock.json "$from"/requirements.txt 2>/dev/null | cmp -s - "$into/installed"; then
        return 0
    fi
    rm -f "$into/installed"
    have node && have npm || packages nodejs npm
    say "installing the $what into $into"
    cp "$from/package.json" "$from/package-lock.json" "$into/"
    # No script of a package runs: what they hold is whole. Not `npm ci`: it wants the packages of other systems in the
    # lock file, too, which not every mirror has.
    (cd "$into" && npm install --loglevel=error --no-save --ignore-scripts --no-audit --no-fund >&2 </dev/null) ||
        die "npm could not install them"
    [ ! -f "$from/requirements.txt" ] || python_packages
    [ "$what" != hosts ] || host_programs
    cat "$from"/package-lock.json "$from"/requirements.txt 2>/dev/null >"$into/installed" || true
}

python_packages() {
    # A Python without ensurepip makes environments that nothing can be installed into.
    { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; } || packages python3 python3-venv
    rm -rf "$into/python"
    python3 -m venv "$into/python"
    "$into/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$from/requirements.txt" >&2 </dev/null ||
        die "pip could not install them"
}

# The programs under the names that their users start them by.
host_programs() {
    modules=../node_modules
    mkdir -p "$into/bin"
    ln -sf $modules/@anthropic-ai/claude-code-linux-x64/claude "$into/bin/claude"
    ln -sf $modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex "$into/bin/codex"
    ln -sf $modules/opencode-linux-x64/bin/opencode "$into/bin/opencode"
    for program in claude codex opencode; do
        [ -x "$into/bin/$program" ] || die "the package of $program has its program elsewhere now"
    done
}

packages() {
    have apt-get || die "needed and not here: $*; install them with this system's package manager, then try again"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "needed and not here: $*; as root run: apt-get install $*"
        as_root='sudo'
        # Nobody can type a password into a pipe.
        [ -t 0 ] || as_root='sudo -n'
    fi
    say "installing $*"
    for try in once again; do
        # shellcheck disable=SC2086 # a list of words
        if $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y --no-install-recommends install "$@" >&2 </dev/null; then
            return 0
        fi
        [ "$try" = once ] && $as_root apt-get -q update >&2 </dev/null
    done
    die "apt could not install $*"
}

main "$@"
