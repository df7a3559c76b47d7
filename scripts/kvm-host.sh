#!/bin/sh
# Runs inside the emulated host of `make test-kvm`, where /dev/kvm is real: pyro under KVM, as a user would try it. It
# shows that it works, never how fast it is. Its argument is the directory that holds `pyro`, `cache` and `config`.
# shellcheck disable=SC2016 # what stands between single quotes is for a guest's shell
set -eu

here=$1
environment=tiny
export PYRO_CACHE_DIR="$here/cache" PYRO_STATE_DIR="$here/state" PYRO_CONFIG_DIR="$here/config"
passed=0
failed=0
started=$(date +%s)

say() { printf 'kvm-host: %s\n' "$*"; }

# check <what> <expected> <found>
check() {
    if [ "$2" = "$3" ]; then
        say "ok: $1 ($(($(date +%s) - started)) s)"
        passed=$((passed + 1))
        return
    fi
    say "FAILED: $1: expected '$2', found '$3'"
    sed 's/^/    /' "$here/stderr" || true
    dmesg | tail -n 5
    failed=$((failed + 1))
}

pyro() {
    ended=0
    "$here/pyro" "$@" </dev/null 2>"$here/stderr" || ended=$?
    # It works all the same, but whoever reads this wants to know how often.
    grep 'booting it once more' "$here/stderr" >&2 || true
    return "$ended"
}

# has <text> <words>: `yes` if the text holds the words.
has() {
    case $1 in
    *"$2"*) echo yes ;;
    *) printf '%s\n' "$1" ;;
    esac
}

# guest <flags of run> -- <argv>: prints standard output and exit code in one line. The machine is as small as can be.
guest() {
    flags='--mem-mib 256'
    limit=120
    if [ "$1" = --seconds ]; then
        limit=$2
        shift 2
    fi
    while [ "$1" != -- ]; do
        flags="$flags $1"
        shift
    done
    shift
    code=0
    # shellcheck disable=SC2086 # a list of words
    out=$(pyro run --timeout-seconds "$limit" $flags "$environment" -- "$@") || code=$?
    printf '%s %s' "$(printf '%s' "$out" | tr '\n' ' ')" "$code"
}

accelerator() { guest --json -- true | tr -d ' ' | sed -n 's/.*"accelerator":"\([a-z]*\)".*/\1/p'; }

machines() { pgrep -c qemu-system || true; }

machines_after_a_moment() {
    tries=0
    while [ "$(machines)" != 0 ] && [ "$tries" -lt 50 ]; do
        sleep 0.2
        tries=$((tries + 1))
    done
    machines
}

# What doctor says, and what its own advice leads to.
device() {
    check 'doctor finds no KVM' yes "$(has "$(pyro doctor)" 'there is no /dev/kvm')"
    check 'KVM that is asked for and not there is refused' ' 125' "$(PYRO_ACCELERATOR=kvm guest -- true)"
    modprobe kvm_amd
    getent group kvm >/dev/null || groupadd --system kvm
    chown root:root /dev/kvm
    chmod 600 /dev/kvm
    check 'doctor finds a KVM that is for root only' yes "$(has "$(pyro doctor)" 'is for root only')"
    chgrp kvm /dev/kvm && chmod 660 /dev/kvm
    check 'doctor finds KVM' yes "$(has "$(pyro doctor)" '/dev/kvm opens and answers')"
    check 'doctor boots a guest under KVM' yes "$(has "$(pyro doctor --boot)" 'after a cold start on kvm')"
    check 'and keeps the verdict' yes "$(has "$(pyro doctor)" 'kvm: a guest booted under it')"
}

basics() {
    check 'the first warm run makes its template' 'first 0' "$(guest -- echo first)"
    check 'a warm machine runs under KVM' kvm "$(accelerator)"
    for number in 1 2 3; do
        check "warm run $number" "out $number 7" "$(guest -- sh -c "echo out $number; exit 7")"
    done
    check 'a timeout keeps what was printed' 'early 124' \
        "$(guest --seconds 3 -- sh -c 'echo early; sleep 60 & sleep 60')"
    check 'KVM can be asked for' 'asked 0' "$(PYRO_ACCELERATOR=kvm guest -- echo asked)"
    check 'more processors than the host has are refused' ' 2' "$(guest --vcpu-count 2 -- nproc)"
}

identity() {
    check 'the clock source is kvm-clock' 'kvm-clock 0' \
        "$(guest -- cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
    script='head -c 16 /dev/urandom | od -An -tx1 | tr -d " \n"; echo; cat /etc/machine-id /proc/sys/kernel/random/uuid'
    one=$(guest -- sh -c "$script")
    other=$(guest -- sh -c "$script")
    count=$(printf '%s %s' "${one% 0}" "${other% 0}" | tr ' ' '\n' | grep -c '[0-9a-f-]\{32,\}')
    different=$(printf '%s %s' "${one% 0}" "${other% 0}" | tr ' ' '\n' | grep '[0-9a-f-]\{32,\}' | sort -u | wc -l)
    check 'two machines share no identity and no randomness' '6 6' "$count $different"
    before=$(date +%s)
    found=$(guest -- date +%s)
    found=${found% *}
    after=$(date +%s)
    check "the guest's clock is the host's" yes \
        "$([ "$found" -ge "$before" ] && [ "$found" -le $((after + 1)) ] && echo yes || echo "$before $found $after")"
    spans=$(guest -- sh -c 'a=$(date +%s); sleep 3; b=$(date +%s); echo $((b - a))')
    check 'time passes in a restored guest as it does here' yes \
        "$(case $spans in '3 0' | '4 0') echo yes ;; *) echo "$spans" ;; esac)"
}

# start_long <MiB>: starts a run that would go on for long.
start_long() {
    "$here/pyro" run --timeout-seconds 600 --mem-mib "$1" "$environment" -- sh -c 'echo up; sleep 500' \
        >"$here/long" 2>"$here/stderr" </dev/null &
    long=$!
}

long_is_up() { grep -q up "$here/long"; }
long_has_machine() { pgrep -P "$long" >/dev/null; }

# wait_until <function>: at most a minute.
wait_until() {
    tries=0
    while ! "$1" && [ "$tries" -lt 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
}

# larger <word>: the word, from a machine of another size.
larger() {
    code=0
    out=$(pyro run --timeout-seconds 120 --mem-mib 512 "$environment" -- echo "$1") || code=$?
    printf '%s %s' "$out" "$code"
}

kills() {
    start_long 256
    wait_until long_is_up
    kill -KILL "$long"
    wait "$long" || true
    check 'a killed pyro leaves no machine' 0 "$(machines_after_a_moment)"

    start_long 256
    wait_until long_is_up
    pkill -KILL -P "$long"
    code=0
    wait "$long" || code=$?
    check 'a killed machine is an error of pyro' 125 "$code"
    check 'and the next run works' 'again 0' "$(guest -- echo again)"

    for victim in pyro machine; do
        start_long 512
        wait_until long_has_machine
        sleep 3
        if [ "$victim" = pyro ]; then kill -KILL "$long"; else pkill -KILL -P "$long"; fi
        code=0
        wait "$long" || code=$?
        check "a $victim killed while a template is made ends the run" yes \
            "$([ "$code" = 137 ] || [ "$code" = 125 ] && echo yes || echo "$code")"
    done
    check 'and the next run makes that template' 'made 0' "$(larger made)"
    check 'and uses it' 'used 0' "$(larger used)"
    check 'nothing is left' 0 "$(machines_after_a_moment)"
    check 'no file is left' '' "$(find "$here/cache/staging" "$here/state" -type f 2>/dev/null)"
}

without_kvm() {
    modprobe -r kvm_amd kvm
    check 'without /dev/kvm, KVM that is asked for is refused again' ' 125' "$(PYRO_ACCELERATOR=kvm guest -- true)"
    check 'and doctor says what is used instead' yes "$(has "$(pyro doctor)" 'software emulation: there is no /dev/kvm')"
}

say "$(uname -r), $(qemu-system-x86_64 --version | head -n 1)"
device
basics
identity
kills
without_kvm
say "$passed checks passed, $failed failed"
[ "$failed" = 0 ]
