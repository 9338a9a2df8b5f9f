#!/bin/sh
# Build the wheel, look that nothing of the package is missing in it, install it into an empty environment,
# and run the demo from there, away from the checkout.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

python -m build --wheel --no-isolation --outdir "$folder" . >"$folder/build.log" || {
    cat "$folder/build.log" >&2
    exit 1
}
wheel=$(echo "$folder"/picas-*.whl)

# Package data (*.sql, *.js, py.typed) is as easily forgotten as never missed in an editable installation.
(cd src && find picas -type f ! -path '*/__pycache__/*' | LC_ALL=C sort) >"$folder/in-source"
python -m zipfile -l "$wheel" | awk '$1 ~ /^picas\// { print $1 }' | LC_ALL=C sort >"$folder/in-wheel"
diff "$folder/in-source" "$folder/in-wheel" || {
    echo "the wheel (>) does not hold what src/picas (<) does" >&2
    exit 1
}

python -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "$wheel"
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$root/scripts/demo.sh"
