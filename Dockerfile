# AddNorm as an image. `docker build .` makes the one for CPUs, `docker build --build-arg DEVICE=cuda .` the one for a GPU:
# the same, with CUDA and cuDNN as Python packages. docker-compose.yml makes both, and that for training.
FROM python:3.11-slim-bookworm AS python


FROM python AS train-builder
WORKDIR /app
# PyPI's torch brings gigabytes of CUDA; empty: it comes from there all the same.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements/train.txt requirements/torch.txt /tmp/
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --require-hashes --only-binary :all: --no-cache-dir --no-deps -r /tmp/train.txt \
 && /opt/venv/bin/python -m pip install --only-binary :all: --no-cache-dir \
    ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} -r /tmp/torch.txt
COPY addnorm/ addnorm/
COPY clients/python/src/addnorm_client/ addnorm_client/
COPY runtime/ runtime/
COPY service/ service/
COPY model/ model/
COPY export/ export/
COPY deploy/train.sh deploy/
RUN chmod -R a+rX /app


FROM python AS train
LABEL org.opencontainers.image.title="AddNorm training" \
      org.opencontainers.image.description="Trains Transformer encoders on the CPU and exports them" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 addnorm \
 && useradd --uid 10001 --gid addnorm --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin addnorm \
 && install --directory --owner 10001 --group addnorm /data /runs /models
COPY --from=train-builder /opt/venv /opt/venv
COPY --from=train-builder /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    MPLCONFIGDIR=/tmp \
    NAME=default \
    VERSION=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["sh", "deploy/train.sh"]
CMD ["clinc150"]


FROM python AS builder
ARG DEVICE=cpu
# 1 adds OpenVINO, which an artifact in bf16 takes: 180 MB.
ARG OPENVINO=
WORKDIR /app
COPY requirements/serve.txt requirements/serve-gpu.txt requirements/openvino.txt /tmp/
RUN python3 -m venv /opt/venv \
 && lock=serve$([ "$DEVICE" = cpu ] || echo -gpu).txt \
 && /opt/venv/bin/python -m pip install --require-hashes --only-binary :all: --no-cache-dir -r /tmp/$lock \
 && if [ -n "$OPENVINO" ]; then \
      /opt/venv/bin/python -m pip install --require-hashes --only-binary :all: --no-cache-dir --no-deps -r /tmp/openvino.txt; \
    fi \
 && /opt/venv/bin/python -m pip uninstall --yes --quiet setuptools pip \
 && rm -r /opt/venv/lib/python*/site-packages/onnx/backend/test
COPY addnorm/ addnorm/
COPY clients/python/src/addnorm_client/ addnorm_client/
COPY runtime/ runtime/
COPY service/ service/
COPY model/ model/
COPY export/ export/
COPY models/ models/
RUN chmod -R a+rX /app \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash addnorm addnorm_client runtime service model export


FROM python AS service
ARG DEVICE=cpu
LABEL org.opencontainers.image.title="AddNorm" \
      org.opencontainers.image.description="Serves Transformer encoders, with their normalization statistics" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 addnorm \
 && useradd --uid 10001 --gid addnorm --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin addnorm \
 && install --directory --owner 10001 --group addnorm /state /models
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /app /app
# ONNX Runtime reports to Microsoft unless told not to.
# The device by name, not `auto`: without a GPU the service says what is missing and exits 2. The container toolkit adds
# the driver's libraries for what NVIDIA_DRIVER_CAPABILITIES names, and CUDA keeps compiled kernels where it may write.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/cuda \
    ADDNORM_HOST=0.0.0.0 \
    ADDNORM_DEVICE=$DEVICE \
    ADDNORM_STATE=/state
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; \
  build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["python", "-m", "addnorm"]
CMD ["serve"]
