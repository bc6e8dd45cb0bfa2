#!/bin/sh
# Installs the pinned SDKs and clients below a folder (default: target/sdk), once.
# usage: tests/sdk/install.sh [FOLDER]
# Needs python3 with venv, node (run with 20; the SDK from 7 on wants 22), npm.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
into=${1:-$here/../../target/sdk}
mkdir -p "$into"
into=$(cd "$into" && pwd)
exec 9>"$into/lock"
flock 9
want=$(cat "$here/python/requirements.txt" "$here/node/package-lock.json" | sha256sum)
if [ "$(cat "$into/installed" 2>/dev/null || true)" != "$want" ]; then
    rm -rf "$into/venv" "$into/node"
    python3 -m venv "$into/venv"
    "$into/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"
    mkdir "$into/node"
    cp "$here/node/package.json" "$here/node/package-lock.json" "$into/node/"
    (cd "$into/node" && npm ci --silent --no-audit --no-fund)
    echo "$want" >"$into/installed"
fi
# The checks are those of this tree; Node finds its modules beside them.
cp "$here/node/check.mjs" "$here/node/matrix.mjs" "$here/node/tasks_check.mjs" "$here/node/s3.mjs" "$into/node/"
mkdir -p "$into/node/clients"
cp "$here"/node/clients/*.mjs "$into/node/clients/"
cp "$here/refusals.json" "$into/"
