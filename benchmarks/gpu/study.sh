#!/usr/bin/env bash
# Goes on with a study on a GPU, many cells at once: study.sh STUDY FOLDER [WORKERS] [HOURS]
# Needs STREAMLAB_DATA. FOLDER gets the home, and a copy of what was exported: copy it beside the
# study, from where the next machine goes on. WHEELS: see run.sh.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
study=$1 folder=$2 workers=${3:-15} hours=${4:-0.14}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
  export PYTHONPATH=$PYTHONPATH:$site
fi
mkdir -p "$folder"
# A cell that failed is no reason not to export the others.
python3 "$root/cli.py" study run "$study" --home "$folder/home" --workers "$workers" --hours "$hours" || true
python3 "$root/cli.py" study export "$study" --home "$folder/home"
cp -r "${study%.yaml}" "$folder/"
