#!/usr/bin/env bash
# Show and run the `docker run` that carries out one shard.  run-stage.sh DOCKER STAGE RUN INDEX IMAGE TAG
# A run in a folder is mounted; for one in a bucket the AWS_… variables are handed on.
set -euo pipefail
docker=$1 stage=$2 run=$3 index=$4 image=$5 tag=$6
if [ -z "$image" ]; then
  case $stage in index | calibrate | report) image=cpu ;; *) image=model ;; esac
fi
options=(--rm --init --read-only --tmpfs /tmp:mode=1777 --cap-drop ALL --security-opt no-new-privileges)
if [[ $run == s3://* ]]; then
  options+=(--network host)
  for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_DEFAULT_REGION AWS_REGION AWS_ENDPOINT_URL; do
    [ -z "${!name:-}" ] || options+=(--env "$name")
  done
else
  folder=$(cd "$run" && pwd) # the container's user must be able to write there
  options+=(--network none --user "$(id -u):$(id -g)" --volume "$folder:/run-folder")
  run=/run-folder
fi
[ -z "${OMP_NUM_THREADS:-}" ] || options+=(--env OMP_NUM_THREADS)
command=("$docker" run "${options[@]}" "nlsim-$image:$tag" stage "$stage" --run "$run" --shard-index "$index")
printf '%q ' "${command[@]}" >&2
echo >&2
exec "${command[@]}"
