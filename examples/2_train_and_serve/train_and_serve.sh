#!/usr/bin/env bash
# Train a folder of labelled pictures, export the network, and serve it: train_and_serve.sh DATA OUT [PORT]
# DATA has train/<label>/* and test/<label>/*. EPOCHS (20) sets how long.
set -euo pipefail
data=$1 out=$2 port=${3:-8000}

taijitu train --model yynet_small_16 --data "$data" --out "$out" --set epochs="${EPOCHS:-20}" --set batch_size=32
taijitu onnx "$out/final.pt" -o "$out/model.onnx"
exec taijitu serve "$out/model.onnx" --port "$port"
