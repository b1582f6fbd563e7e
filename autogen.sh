#!/bin/sh
# Makes configure, in a checkout. Releases come with it.
set -e
cd "$(dirname "$0")"
for tool in autoreconf automake libtoolize pkg-config; do
    command -v $tool >/dev/null || {
        echo "autogen.sh: $tool is missing (Debian, Ubuntu: apt install autoconf automake libtool pkg-config)" >&2
        exit 1
    }
done
exec autoreconf --install --force --warnings=all,no-obsolete
