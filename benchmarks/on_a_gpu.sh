#!/usr/bin/env bash
# Every record that wants a GPU, in one go, from a checkout:
#     benchmarks/on_a_gpu.sh clothing.zip cifar10-train.zip cifar10-test.zip [OUT]
# Needs an installed torch with CUDA and plainvision's dependencies; nothing is installed here. A run that is stopped goes
# on where it was when started again. Records land in results/, runs in OUT (runs/gpu by default). RESNET20 and RESNET32
# name the weights of ResNets for CIFAR-10, whose part is left out without them.
set -euo pipefail
cd "$(dirname "$0")/.."
usage="usage: benchmarks/on_a_gpu.sh CLOTHING CIFAR10_TRAIN CIFAR10_TEST [OUT]; each a folder, .zip or .tar"
clothing=${1:?$usage}
cifar=(--data.root "${2:?$usage}" --data.validation-root "${3:?$usage}" --data.validation-split test)
out=${4:-runs/gpu}
export PYTHONPATH=src
bench=(python3 -m plainvision bench --device cuda --precision bf16)

python3 -m pytest -q -m gpu tests
python3 benchmarks/gpu_ladder.py --minutes 8
python3 benchmarks/vanillanet_gpu.py --minutes 3
python3 benchmarks/vanillanet_fused.py --device cuda --runs 300
python3 benchmarks/fuse_after_anneal.py --device cuda --batch-size 128 --precision bf16 --runs 50
python3 benchmarks/patchconvnet.py --device cuda --precision bf16 --batch-size 256 --runs 30
python3 benchmarks/parameter_free.py --device cuda --batch-size 64 --training-batch-size 128 --runs 50
python3 benchmarks/dynamic_engine.py --device cuda --batch-size 128 --rounds 5
"${bench[@]}" resnet50 vanillanet_6:deployed vanillanet_9:deployed --runs 300 \
    --json results/vanillanet_cuda_batch_1.json
"${bench[@]}" resnet50 vanillanet_6:deployed vanillanet_9:deployed --batch-size 256 --runs 50 \
    --json results/vanillanet_cuda_batch_256.json
"${bench[@]}" patchconvnet_s60 patchconvnet_b60 resnet50 --batch-size 64 --sizes 224 288 384 512 --runs 30 \
    --json results/patchconvnet_growth_cuda.json --figure "$out/growth.pdf"

python3 benchmarks/clothing.py --root "$clothing" --out "$out/clothing" --record results/clothing_cuda.json
python3 benchmarks/patchconvnet_clothing.py --root "$clothing" --out "$out/patchconvnet_clothing" \
    --record results/patchconvnet_clothing_cuda.json --picture "$out/maps.pdf"
if [ -n "${RESNET20:-}" ] && [ -n "${RESNET32:-}" ]; then
    python3 benchmarks/dynamic_cifar.py --device cuda --all-controls --combine --resnet20 "$RESNET20" \
        --resnet32 "$RESNET32" --train "$2" \
        --test "$3" --folder "$out/dynamic_cifar"
    python3 -m plainvision tune resnet20_cifar:num_classes=10 --checkpoint "$RESNET20" --device cuda \
        --data.root "$3" --data.validation-split test --seconds 600 --out "$out/resnet20_tuned" \
        --json results/tune_resnet20_cuda.json
fi

# On all images; these take the place of the records of 10,000 images.
for group in vanillanet vanillanet_longer patchconvnet parameter_free alexnet; do
    python3 benchmarks/ablations.py "$group" --train "$2" --test "$3" --images-per-class 5000 --out "$out/ablations"
done

# Started again, a study or a search has a folder to go on from.
resume() { [ -e "$1" ] && echo --resume || true; }
for bottleneck in resnet inverted; do
    study="$out/study_$bottleneck"
    python3 -m plainvision study --bottleneck "$bottleneck" "${cifar[@]}" $(resume "$study") --out "$study"
    cp "$study/study.json" "results/study_${bottleneck}_cuda.json"
done
for cells in shared individual; do
    search="$out/search_$cells"
    python3 -m plainvision search --cells "$cells" "${cifar[@]}" $(resume "$search") --out "$search"
    cp "$search/record.json" "results/search_${cells}_cuda.json"
done
