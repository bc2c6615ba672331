#!/usr/bin/env bash
# Install what the tests need from the system: Chromium for the docs site, with `compiler` a C++ compiler for the local language model, with `postgres` a PostgreSQL server, with `java` a Java for Spark, with `balancer` HAProxy. Does nothing where it is there.
#
# usage: tools/install_system.sh [compiler | postgres | java | balancer | --help]
# Looks at the variables CHROMIUM, CXX and JAVA_HOME, then for the usual names on PATH, and for PostgreSQL and HAProxy where Debian puts them. Installs with apt-get, as root or with sudo.
set -euo pipefail

fail() { echo "$1 $why" >&2; exit 1; }

case "${1:-}" in
  '')
    variable=CHROMIUM given=${CHROMIUM:-} names='chromium chromium-browser google-chrome' package=chromium
    why='The tests of the docs site open every page in Chromium: please install it, or name it in the variable CHROMIUM.' ;;
  compiler)
    variable=CXX given=${CXX:-} names='c++ g++ clang++' package='g++'
    why='The local language model is compiled: please install a C++ compiler, or name it in the variable CXX.' ;;
  postgres)
    PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')
    variable=PATH given= names=initdb package=postgresql
    why='The tests of the event log start a PostgreSQL server: please install one.' ;;
  java)
    variable=JAVA_HOME given=${JAVA_HOME:+$JAVA_HOME/bin/java} names=java package=openjdk-17-jre-headless
    why='Spark runs on Java: please install version 17 or later, or name its folder in the variable JAVA_HOME.' ;;
  balancer)
    PATH=$PATH:/usr/sbin
    variable=PATH given= names=haproxy package=haproxy
    why='The tests of two processes put HAProxy before them: please install it.' ;;
  -h|--help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "unknown argument: $1 (see --help)" >&2; exit 2 ;;
esac

if [ -n "$given" ]; then
  if command -v "${given%% *}" >/dev/null; then exit 0; fi
  fail "$variable=$given is not a program."
fi
for name in $names; do
  if command -v "$name" >/dev/null; then exit 0; fi
done

command -v apt-get >/dev/null || fail "There is no $package and no apt-get."
if [ "$(id -u)" = 0 ]; then root=()
elif command -v sudo >/dev/null; then root=(sudo)
else fail "There is no $package, and installing it with apt-get needs root or sudo."
fi
export DEBIAN_FRONTEND=noninteractive
echo "Installing $package with apt-get, once" >&2
${root[@]+"${root[@]}"} apt-get update -q || fail 'apt-get update failed.'
${root[@]+"${root[@]}"} apt-get install -y -q --no-install-recommends "$package" || fail "apt-get could not install $package."
