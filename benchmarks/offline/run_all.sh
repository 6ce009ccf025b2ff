#!/usr/bin/env bash
# Every offline benchmark at the sizes of the README beside this file; each appends its lines to $OUT. An idle machine is assumed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python3}
out=${OUT:-var/bench/offline.jsonl}
shop=${SHOP:-var/bench/shop}
size="--items 498196 --users 192403 --interactions 1689188"
here=benchmarks/offline

measure() {
    echo "$ $*" >&2
    "$python" "$here/$1.py" "${@:2}" --out "$out"
}

[ -d "$shop" ] || "$python" -m offline_jobs generate $size --image-share 0 --out "$shop"
measure generate $size --pictures 5000
measure ingest --data "$shop" --repeats 1
measure bad_input --data "$shop"
measure text_embeddings --rows 30000 --backends onnx-int8 --texts title
measure text_embeddings --rows 2000
measure lexical --rows 50000
measure image_embeddings --rows 2000 --encoder efficientnet-lite0 --encoder mobilenetv2 --encoder resnet18
measure download --images 5000
measure fusion cost
measure graphs $size
measure knn --rows 150000 --dim 384
measure knn --rows 150000 --dim 128
measure knn --rows 150000 --dim 512 --exact
