#!/bin/sh
# Makes sure that qemu-system-x86_64 and qemu-img are there: installs Debian's or Ubuntu's packages when they are
# missing, and on another distribution prints that distribution's command and stops. Asks for sudo only when it is
# not root and something really has to be installed.
set -eu

say() { printf 'install-qemu: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

main() {
    if have qemu-system-x86_64 && have qemu-img; then
        return 0
    fi
    [ "$(uname -s)" = Linux ] || die "pyro runs on Linux only, this is $(uname -s)"
    [ "$(uname -m)" = x86_64 ] || die "pyro runs on x86_64 only, this is $(uname -m)"
    if have apt-get && have dpkg; then
        with_apt
    else
        other_distribution
    fi
    have qemu-system-x86_64 || die "the packages are installed, but qemu-system-x86_64 is not in PATH"
    have qemu-img || die "the packages are installed, but qemu-img is not in PATH"
    say "installed $(qemu-system-x86_64 --version | head -n 1)"
}

# Prints the command of a distribution that has no apt, and stops.
other_distribution() {
    if have dnf; then
        command='dnf install qemu-system-x86-core qemu-img'
    elif have pacman; then
        command='pacman -S qemu-system-x86 qemu-img'
    elif have zypper; then
        command='zypper install qemu-x86 qemu-img'
    elif have apk; then
        command='apk add qemu-system-x86_64 qemu-img'
    elif have nix-env; then
        command='nix-env -iA nixpkgs.qemu'
    else
        die "QEMU is missing; install qemu-system-x86_64 (7.2 or later) and qemu-img, then try again"
    fi
    say "QEMU is missing; install it with this command, then try again:"
    printf '    %s\n' "$command" >&2
    exit 1
}

with_apt() {
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "QEMU is missing and this is not root; as root run: apt-get install qemu-system-x86 qemu-utils"
        as_root='sudo'
        # Nobody can type a password into a pipe.
        [ -t 0 ] || as_root='sudo -n'
        say "QEMU is missing; sudo is used to install qemu-system-x86 and qemu-utils"
    else
        say "QEMU is missing; installing qemu-system-x86 and qemu-utils"
    fi

    updated=no
    choose_packages || refresh
    if [ "$packages" = none ]; then
        choose_packages || {
            # shellcheck disable=SC2086 # a list of words
            apt_get --simulate install $wanted >&2 || true
            die "apt cannot install qemu-system-x86 and qemu-utils; its reason is above"
        }
    fi
    # Lists that are too old name files which the mirror no longer has: one more try with fresh ones.
    install_packages || {
        [ "$updated" = no ] || die "apt could not install $packages"
        refresh
        choose_packages || die "apt cannot install qemu-system-x86 and qemu-utils"
        install_packages || die "apt could not install $packages"
    }
}

wanted='qemu-system-x86 qemu-utils'

# Settles on what apt is asked for, in $packages; fails, with `none`, when apt refuses all of it.
choose_packages() {
    packages=$wanted
    downgrade=
    if simulate; then
        return 0
    fi
    # A newer qemu-utils, left by a source that is no longer configured, bars the qemu-system-x86 that is on offer
    # ("qemu-utils : Breaks: qemu-system-common"). Take all of QEMU from the version on offer.
    version=$(candidate qemu-system-x86)
    if [ -n "$version" ]; then
        packages="qemu-system-x86=$version qemu-utils=$version$(other_pins "$version")"
        downgrade=--allow-downgrades
        if simulate; then
            say "qemu-utils $(installed qemu-utils) is newer than the qemu-system-x86 on offer and bars it:"
            say "installing version $version of both"
            return 0
        fi
    fi
    packages=none
    return 1
}

# The other QEMU packages that are installed, pinned to the version on offer where there is one.
other_pins() {
    dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${source:Package}\n' 'qemu-*' 2>/dev/null |
        while read -r state name source; do
            case "$state $source $name" in
            'ii qemu qemu-utils' | 'ii qemu qemu-system-x86') ;;
            'ii qemu '*)
                # Packages for all architectures lack the +b of a rebuilt one.
                for version in "$1" "${1%+b[0-9]*}"; do
                    if offered "$name" "$version"; then
                        printf ' %s=%s' "$name" "$version"
                        break
                    fi
                done
                ;;
            esac
        done
}

candidate() { apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'; }
installed() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }
offered() { apt-cache madison "$1" | awk -v version="$2" '$3 == version { found = 1 } END { exit !found }'; }

apt_get() { LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends "$@"; }

simulate() {
    # shellcheck disable=SC2086 # lists of words
    apt_get --simulate install $downgrade $packages >/dev/null 2>&1
}

install_packages() {
    # shellcheck disable=SC2086 # lists of words
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install $downgrade $packages >&2 </dev/null
}

refresh() {
    say "refreshing apt's package lists"
    $as_root apt-get -q update >&2 </dev/null || die "apt-get update failed; its reason is above"
    updated=yes
}

main
