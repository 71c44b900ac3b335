#!/usr/bin/env bash
# Write a model for Triton and for Ray Serve: write.sh model.onnx OUT
set -euo pipefail
model=$1 out=$2
mkdir -p "$out"

taijitu triton-repo "$model" --out "$out/triton" --name classifier --mounted-at /models
taijitu ray-app "$model" --out "$out/ray" --min-replicas 1 --max-replicas 4
