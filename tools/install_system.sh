#!/usr/bin/env bash
# Install the one system package that the tests need: Chromium, for the docs site. Does nothing where it is there.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n 2p "$0"; exit 0; fi
command -v chromium >/dev/null || command -v chromium-browser >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then echo 'Please install Chromium: the tests of the docs site open every page in it.' >&2; exit 1; fi
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
as_root apt-get update -q
as_root apt-get install -y -q --no-install-recommends chromium
