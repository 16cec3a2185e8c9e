#!/bin/bash
# The packed engine on a GPU, against plain transformers and the matrix products alone: Llama-3.1-8B's shape with random
# weights made on the device, so nothing is downloaded. Under ten minutes. Needs torch >= 2.10 and transformers >= 5.10 in
# $PYTHON (.venv/bin/python, else python3) and about 36 GB of GPU memory. Options are bench/gpu.py's: bench/gpu.sh --json
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
exec "$PYTHON" bench/gpu.py "$@"
