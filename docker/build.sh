#!/usr/bin/env bash
# Build the submission image, with one method a task:
#
#   TASK_01=none TASK_02=runs/lung_unet TASK_03='runs/oasis_unet refine=gauss_newton' docker/build.sh
#
# TASK_0T is a run folder, a checkpoint file, convex (the default, without training) or none (the
# task is left out), followed by options of predict.py. Arguments are passed to `docker build`. For a
# program other than Docker: ENGINE='podman build -t l2r_submission' docker/build.sh
set -euo pipefail
started_in=$PWD
cd "$(dirname "$0")/.."
models=docker/models
rm -rf "$models"
mkdir -p "$models"
for folder in task_01 task_02 task_03; do
  choice=${folder^^}
  read -r method options <<<"${!choice:-convex}"
  case $method in
    none | convex | zero) ;;
    *)
      file=$(cd "$started_in" && realpath -m -- "$method")
      for name in best.pt last.pt model.safetensors; do
        if [ -f "$file/$name" ]; then file=$file/$name; fi
      done
      if [ ! -f "$file" ]; then
        echo "error: $choice=$method: no checkpoint at $file; name a run folder, a checkpoint, convex or none" >&2
        exit 1
      fi
      method=$folder.pt
      if [[ $file == *.safetensors ]]; then method=$folder.safetensors; fi
      cp "$file" "$models/$method"
      ;;
  esac
  echo "$method ${options:-}" >"$models/$folder.txt"
done
${ENGINE:-docker build -t l2r_submission} "$@" .
