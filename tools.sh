#!/usr/bin/env bash
# Installs from Debian's packages what is missing: tools.sh build|test. Does nothing where all is there.
set -euo pipefail

missing=()
need() { # need COMMAND-OR-FILE PACKAGE…
	command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || missing+=("${@:2}")
}

need cc build-essential
need c++ build-essential
if [ "${1:-build}" = test ]; then
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
	need strace strace
	need node nodejs
	need npm npm
	python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3 python3-venv)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

echo "installing: ${missing[*]}"
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
# RUNLEVEL keeps Debian from starting what it installs as a service.
"${as_root[@]}" env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	apt-get install -y -qq --no-install-recommends "${missing[@]}"
