#!/usr/bin/env bash
# Install the one system package that the tests need: Chromium, for the docs site. Does nothing where there is a browser.
#
# usage: tools/install_system.sh [--help]
# Looks at the variable CHROMIUM, then for chromium, chromium-browser and google-chrome on PATH. Installs with apt-get, as root or with sudo.
set -euo pipefail

fail() { echo "$1 The tests of the docs site open every page in Chromium: please install it, or name it in the variable CHROMIUM." >&2; exit 1; }

case "${1:-}" in
  '') ;;
  -h|--help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "unknown argument: $1 (see --help)" >&2; exit 2 ;;
esac

if [ -n "${CHROMIUM:-}" ]; then
  if [ -x "$CHROMIUM" ]; then exit 0; fi
  fail "CHROMIUM=$CHROMIUM is not a program."
fi
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done

command -v apt-get >/dev/null || fail 'There is no Chromium and no apt-get.'
if [ "$(id -u)" = 0 ]; then root=()
elif command -v sudo >/dev/null; then root=(sudo)
else fail 'There is no Chromium, and installing it with apt-get needs root or sudo.'
fi
export DEBIAN_FRONTEND=noninteractive
echo 'Installing Chromium with apt-get, once' >&2
${root[@]+"${root[@]}"} apt-get update -q || fail 'apt-get update failed.'
${root[@]+"${root[@]}"} apt-get install -y -q --no-install-recommends chromium || fail 'apt-get could not install chromium.'
