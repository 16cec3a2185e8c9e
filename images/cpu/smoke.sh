#!/usr/bin/env bash
# smoke.sh DOCKER IMAGE: the image works as a cluster runs it, and carries what it should and nothing that it should not.
set -euo pipefail
docker=$1 image=$2
run() { "$docker" run --rm --read-only --tmpfs /tmp:mode=1777 --network none --cap-drop ALL --security-opt no-new-privileges "$@"; }
run "$image" --version
run "$image" doctor
run --entrypoint python "$image" -c 'import os, boto3, hera.workflows, kubernetes.client, pandas, pyarrow.parquet, scipy.stats; assert os.getuid() == 10001'
run --entrypoint python "$image" -c 'import importlib.util; assert importlib.util.find_spec("torch") is None'
if run --entrypoint sh "$image" -c true 2>/dev/null; then echo "$image has a shell"; exit 1; fi
# by the files' own modes: on a root that is not mounted read-only
"$docker" run --rm --network none --entrypoint python "$image" -c "$(cat "$(dirname "$0")/../scan.py")"
echo "$image is in order"
