# Finishes a Debian root filesystem whose packages are unpacked: runs what only their own scripts can do, then leaves
# no trace of the machine it ran in. PREINSTS and TOTAL are set above by pyro.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
unset LANG LANGUAGE
umask 022
cd /

# A first installation starts with the packages' own preparations. None of them asks a question then, so that the
# frontend that would answer (a Perl program for each script) is said to run already.
for info_name in $PREINSTS; do
	package=${info_name%%:*}
	DPKG_MAINTSCRIPT_PACKAGE=$package DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_MAINTSCRIPT_ARCH=amd64 \
	DPKG_MAINTSCRIPT_NAME=preinst DPKG_ROOT='' DEBIAN_HAS_FRONTEND=1 \
		"/var/lib/dpkg/info/$info_name.preinst" install </dev/null
done

# Progress is what dpkg says on descriptor 3; the exit code comes back through a file, as a pipeline keeps only the last.
status_file=/run/pyro-configure.status
exec 4>&1
{
	code=0
	dpkg --status-fd 3 --force-unsafe-io --configure -a 3>&1 >&4 2>&1 </dev/null || code=$?
	echo "$code" >"$status_file"
} | {
	done_count=0
	while IFS=' ' read -r word action package rest; do
		case "$word $action" in
		'processing: configure:')
			done_count=$((done_count + 1))
			echo "pyro-progress: $done_count ${package%%:*}"
			;;
		esac
	done
}
read -r code <"$status_file"
[ "$code" -eq 0 ] || exit "$code"
