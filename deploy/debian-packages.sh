#!/usr/bin/env bash
# Installs the Debian packages of commands that are missing: debian-packages.sh COMMAND=PACKAGE...
# The servers among them are not started: the local stack and the tests start their own, on ports of their choice.
set -euo pipefail

missing=()
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}; install them (Debian, as root: apt-get install ${missing[*]}), then run make again" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d # what Debian asks before it starts a service that was just installed
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "==> Debian packages: ${missing[*]}"
log=$(mktemp)
if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    cat "$log" >&2
    echo "apt-get could not install: ${missing[*]} (its output stands above)" >&2
    exit 1
fi
rm -f "$log"
echo "    installed after $SECONDS s"
