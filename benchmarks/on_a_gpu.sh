#!/usr/bin/env bash
# Every record that wants a GPU, in one go, from a checkout: benchmarks/on_a_gpu.sh clothing.zip [OUT]
# Needs an installed torch with CUDA and plainvision's dependencies; nothing is installed here. A run that is stopped goes
# on where it was when started again. Records land in results/, runs in OUT (runs/gpu by default).
set -euo pipefail
cd "$(dirname "$0")/.."
images=${1:?"give the clothing images: a folder, .zip or .tar with train, validation and test"}
out=${2:-runs/gpu}
export PYTHONPATH=src

python3 benchmarks/vanillanet_fused.py --device cuda --runs 300
python3 benchmarks/fuse_after_anneal.py --device cuda --batch-size 128 --precision bf16 --runs 50
python3 -m plainvision bench resnet50 vanillanet_6:deployed vanillanet_9:deployed --device cuda --precision bf16 \
    --runs 300 --json results/vanillanet_cuda_batch_1.json
python3 -m plainvision bench resnet50 vanillanet_6:deployed vanillanet_9:deployed --device cuda --precision bf16 \
    --batch-size 256 --runs 50 --json results/vanillanet_cuda_batch_256.json
python3 benchmarks/clothing.py --root "$images" --out "$out/clothing" --record results/clothing_cuda.json
python3 benchmarks/patchconvnet.py --device cuda --precision bf16 --batch-size 256 --runs 30
python3 -m plainvision bench patchconvnet_s60 patchconvnet_b60 resnet50 --device cuda --precision bf16 --batch-size 64 \
    --sizes 224 288 384 512 --runs 30 --json results/patchconvnet_growth_cuda.json --plot "$out/growth.pdf"
python3 benchmarks/patchconvnet_clothing.py --root "$images" --out "$out/patchconvnet_clothing" \
    --record results/patchconvnet_clothing_cuda.json --picture "$out/maps.pdf"
