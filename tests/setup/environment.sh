#!/usr/bin/env bash
# Installs what tests play against and Splitguard never imports (Patroni, the managers'
# own client `cfy`) into a virtual environment of its own: its packages are nobody else's
# business. Everything comes from the lock file by its hash.
# $1: the lock file    $2: the environment's folder, e.g. .venv/cfy
# $3: the program that must run in the end, e.g. cfy    PYTHON: the interpreter to use.
set -euo pipefail
cd "$(dirname "$0")/../.."
lock=${1:?give the lock file}
target=${2:?give the folder of the environment}
program=${3:?give the program that it is for}
python=${PYTHON:-python3}
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
"$target/bin/$program" --version
