#!/usr/bin/env bash
# Installs the managers' own client `cfy`, for the tests of the stand-in manager, into a
# virtual environment of its own: its packages are nobody else's business. Everything
# comes from the lock file by its hash.
# $1: the environment's folder, e.g. .venv/cfy    PYTHON: the interpreter to use.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:?give the folder of the environment}
python=${PYTHON:-python3}
lock=requirements-cfy.lock
tools=$(mktemp)
trap 'rm -f -- "$tools"' EXIT

rm -rf -- "$target"
"$python" -m venv --without-pip "$target"
install=("$python" -m pip --python "$target/bin/python" -qq --disable-pip-version-check
    install --no-warn-script-location --require-hashes --no-deps)
# Some come as source archives: what builds them is in the lock file too, and first.
sed -n '/^setuptools==/,/[^\\]$/p' "$lock" >"$tools"
"${install[@]}" -r "$tools"
"${install[@]}" --no-build-isolation --use-pep517 -r "$lock"
"$target/bin/cfy" --version
