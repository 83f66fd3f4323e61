#!/usr/bin/env bash
# Checks and measures on a GPU: run.sh [--device cpu] [--quick] FOLDER
# Writes gpu.json and gpu.md into FOLDER. WHEELS: a folder of wheels to install first, for a
# machine without a package index.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export PYTHONPATH=$root:$root/tests/samples:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
  export PYTHONPATH=$PYTHONPATH:$site
fi
python3 "$root/benchmarks/gpu/measure.py" "$@"
