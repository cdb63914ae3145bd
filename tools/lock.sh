#!/usr/bin/env bash
# Writes the locks in requirements/ (`make lock`). Give it the path of uv.
# The files get no header and no index: they name packages, versions and hashes, never a host.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${1:?usage: tools/lock.sh PATH-OF-UV [--upgrade]}
shift

compile() { # OUTPUT, then uv's arguments
    local output=requirements/$1.txt
    shift
    "$uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-strip-markers \
        --output-file "$output" "$@" >/dev/null
    echo "surge: wrote $output"
}

compile dev "$@" pyproject.toml requirements/build.in --extra dev
compile demo "$@" --constraint requirements/dev.txt pyproject.toml requirements/build.in --extra demo
for name in pip lock stubs-esp32 stubs-rp2; do
    compile "$name" "$@" "requirements/$name.in"
done
