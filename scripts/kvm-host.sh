#!/bin/sh
# Runs inside the emulated host of `make test-kvm`, where /dev/kvm is real: pyro under KVM, as a user would try it. It
# shows that it works, never how fast it is. Its argument is the directory that holds `pyro` and `cache`.
set -eu

here=$1
environment=debian:12-base
PYRO_CACHE_DIR=$here/cache
PYRO_STATE_DIR=$here/state
export PYRO_CACHE_DIR PYRO_STATE_DIR
failures=0

say() { printf 'kvm-host: %s\n' "$*"; }

# check <what> <expected> <found>
check() {
    if [ "$2" = "$3" ]; then
        say "ok: $1"
    else
        say "FAILED: $1: expected '$2', found '$3'"
        failures=$((failures + 1))
    fi
}

pyro() { "$here/pyro" "$@" </dev/null; }

# guest <flags of run> -- <argv>: prints standard output and exit code in one line.
guest() {
    flags=
    while [ "$1" != -- ]; do
        flags="$flags $1"
        shift
    done
    shift
    code=0
    # shellcheck disable=SC2086 # a list of words
    out=$(pyro run --timeout-seconds 120 $flags "$environment" -- "$@" 2>"$here/stderr") || code=$?
    printf '%s %s' "$(printf '%s' "$out" | tr '\n' ' ')" "$code"
}

accelerator() { guest --json "$@" -- true | tr -d ' ' | sed -n 's/.*"accelerator":"\([a-z]*\)".*/\1/p'; }

machines() { pgrep -c qemu-system || true; }

machines_after_a_moment() {
    tries=0
    while [ "$(machines)" != 0 ] && [ "$tries" -lt 50 ]; do
        sleep 0.2
        tries=$((tries + 1))
    done
    machines
}

basics() {
    check 'a cold machine runs under KVM' kvm "$(accelerator --cold)"
    check 'the first warm run makes its template' 'first 0' "$(guest -- echo first)"
    check 'a warm machine runs under KVM' kvm "$(accelerator)"
    for number in 1 2 3; do
        check "warm run $number" "out $number 7" "$(guest -- sh -c "echo out $number; exit 7")"
    done
    check 'a timeout keeps what was printed' 'early 124' "$(guest --timeout-seconds 3 -- sh -c 'echo early; sleep 60 & sleep 60')"
    check 'KVM can be asked for' 'asked 0' "$(PYRO_ACCELERATOR=kvm guest -- echo asked)"
}

identity() {
    check 'the clock source is kvm-clock' 'kvm-clock 0' \
        "$(guest -- cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
    script='head -c 16 /dev/urandom | od -An -tx1 | tr -d " \n"; cat /etc/machine-id /proc/sys/kernel/random/uuid'
    one=$(guest -- sh -c "$script")
    other=$(guest -- sh -c "$script")
    values=$(printf '%s\n%s\n' "$one" "$other" | tr ' ' '\n' | grep -c '[0-9a-f-]\{32,\}')
    different=$(printf '%s\n%s\n' "$one" "$other" | tr ' ' '\n' | grep '[0-9a-f-]\{32,\}' | sort -u | wc -l)
    check 'two machines share no identity and no randomness' "$values" "$different"
    before=$(date +%s)
    found=$(guest -- date +%s)
    found=${found% *}
    after=$(date +%s)
    check "the guest's clock is the host's" yes \
        "$([ "$found" -ge "$before" ] && [ "$found" -le $((after + 1)) ] && echo yes || echo "$found")"
}

# start_long: starts a run that would go on for long, and waits until its guest is up.
start_long() {
    "$here/pyro" run --timeout-seconds 600 "$environment" -- sh -c 'echo up; sleep 500' >"$here/long" 2>"$here/stderr" </dev/null &
    long=$!
    tries=0
    while ! grep -q up "$here/long" && [ "$tries" -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
}

kills() {
    start_long
    kill -KILL "$long"
    wait "$long" || true
    check 'a killed pyro leaves no machine' 0 "$(machines_after_a_moment)"

    start_long
    pkill -KILL -P "$long"
    code=0
    wait "$long" || code=$?
    check 'a killed machine is an error of pyro' 125 "$code"
    check 'and the next run works' 'again 0' "$(guest -- echo again)"
    check 'nothing is left' 0 "$(machines_after_a_moment)"
}

without_kvm() {
    modprobe -r kvm_amd kvm
    check 'without /dev/kvm, KVM that is asked for is refused' ' 125' "$(PYRO_ACCELERATOR=kvm guest -- true)"
}

modprobe kvm_amd
[ -c /dev/kvm ] || {
    say "FAILED: there is no /dev/kvm in the emulated host"
    exit 1
}
say "$(uname -r), $(qemu-system-x86_64 --version | head -n 1)"
pyro doctor || true
basics
identity
kills
without_kvm
say "$failures checks failed"
[ "$failures" = 0 ]
