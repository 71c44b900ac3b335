#!/usr/bin/env bash
# Make the model that is shipped, and fail unless it answers like its checkpoint: verify.sh CHECKPOINT DATA OUT [FLAGS]
# FLAGS are those of taijitu verify, such as --require-certain. Exit code: 0 fine or not shown, 1 not fine.
set -euo pipefail
checkpoint=$1 data=$2 out=$3
shift 3
mkdir -p "$out"

taijitu onnx "$checkpoint" -o "$out/model.onnx"
taijitu verify "$out/model.onnx" --data "$data" --reference "$checkpoint" --report "$out/model.html" "$@"
