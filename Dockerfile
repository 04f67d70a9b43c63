# AddNorm as an image. `docker build .` makes the CPU one; docker-compose.yml makes all three (docs/deployment.md).
FROM python:3.11-slim-bookworm AS python

# docker-compose.yml puts NVIDIA's CUDA image in the place of this stage, so that the CPU image never pulls it.
# Without compose: docker build --target gpu --build-context cuda=docker-image://nvidia/cuda:TAG .
FROM python AS cuda


FROM cuda AS cuda-python
RUN ldconfig -p | grep -q 'libcudnn\.so\.9' \
 || { echo "The gpu target needs --build-context cuda=..., see above." >&2; exit 1; }
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*


FROM cuda-python AS gpu-builder
WORKDIR /app
COPY requirements/serve-gpu.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --require-hashes --only-binary :all: --no-cache-dir -r /tmp/requirements.txt \
 && /opt/venv/bin/python -m pip uninstall --yes --quiet setuptools pip
COPY addnorm/ addnorm/
COPY clients/python/src/addnorm_client/ addnorm_client/
COPY runtime/ runtime/
COPY service/ service/
COPY models/ models/
RUN chmod -R a+rX /app \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash addnorm addnorm_client runtime service


FROM cuda-python AS gpu
LABEL org.opencontainers.image.title="AddNorm" \
      org.opencontainers.image.description="Serves Transformer encoders on a GPU, with their normalization statistics" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 addnorm \
 && useradd --uid 10001 --gid addnorm --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin addnorm \
 && install --directory --owner 10001 --group addnorm /state /models
COPY --from=gpu-builder /opt/venv /opt/venv
COPY --from=gpu-builder /app /app
# ONNX Runtime reports to Microsoft unless told not to.
# The device by name, not `auto`: without a GPU the service says what is missing and exits 2.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    CUDA_CACHE_PATH=/tmp/cuda \
    ADDNORM_HOST=0.0.0.0 \
    ADDNORM_DEVICE=cuda \
    ADDNORM_STATE=/state
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; \
  build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["python", "-m", "addnorm"]
CMD ["serve"]


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
WORKDIR /app
COPY requirements/serve.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --require-hashes --only-binary :all: --no-cache-dir -r /tmp/requirements.txt \
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
LABEL org.opencontainers.image.title="AddNorm" \
      org.opencontainers.image.description="Serves Transformer encoders, with their normalization statistics" \
      org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 addnorm \
 && useradd --uid 10001 --gid addnorm --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin addnorm \
 && install --directory --owner 10001 --group addnorm /state /models
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /app /app
# ONNX Runtime reports to Microsoft unless told not to.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ADDNORM_HOST=0.0.0.0 \
    ADDNORM_DEVICE=cpu \
    ADDNORM_STATE=/state
WORKDIR /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; \
  build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["python", "-m", "addnorm"]
CMD ["serve"]
