# The stage images of nlsim, one target each:  cpu (no torch), model (torch), vllm.
#   docker build --target cpu -t nlsim-cpu .
# BASE is any glibc image with Python 3.11 or newer, its venv module and CA certificates. The cpu and model images carry
# only its interpreter, the shared libraries that needs, and the packages of images/<target>/requirements.lock.
ARG BASE=python:3.11-slim-bookworm
ARG GO=golang:1.26-bookworm

FROM ${BASE} AS builder
ARG UV_VERSION=0.13.8
ARG HATCHLING_VERSION=1.33.0
# Bytecode is checked by content, so it stays valid whatever the time stamps are and layers are reproducible.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH SOURCE_DATE_EPOCH=0
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends binutils >/dev/null \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/build && /opt/build/bin/pip install --quiet "uv==${UV_VERSION}" "hatchling==${HATCHLING_VERSION}"

# Interpreter, standard library, C libraries, certificates, the user: the same for every image.
FROM builder AS system
COPY images/rootfs.py /tmp/rootfs.py
RUN python3 /tmp/rootfs.py /rootfs

# Dependencies come from the lock alone: this layer changes only when the lock does.
FROM builder AS cpu-packages
COPY images/cpu/requirements.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \
    python3 -m venv --without-pip /opt/nlsim \
    && /opt/build/bin/uv pip install --quiet --python /opt/nlsim --no-deps --require-hashes -r /tmp/requirements.lock
COPY images/trim.py /tmp/
RUN python3 /tmp/trim.py /opt/nlsim

FROM builder AS model-packages
COPY images/model/requirements.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \
    python3 -m venv --without-pip /opt/nlsim \
    && /opt/build/bin/uv pip install --quiet --python /opt/nlsim --no-deps --require-hashes -r /tmp/requirements.lock
COPY images/trim.py /tmp/
RUN python3 /tmp/trim.py /opt/nlsim

FROM builder AS vllm-packages
COPY images/vllm/requirements.lock /tmp/
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \
    python3 -m venv --without-pip /opt/nlsim \
    && /opt/build/bin/uv pip install --quiet --python /opt/nlsim --no-deps --require-hashes -r /tmp/requirements.lock

# The project, built once and laid over each image's dependencies as a layer of its own. uv leaves a lock that anyone may
# write to; the one here covers that of the dependencies.
FROM builder AS project
COPY pyproject.toml README.md LICENSE /src/
COPY argo /src/argo
COPY nlsim /src/nlsim
RUN cd /src && /opt/build/bin/hatchling build -t wheel -d /tmp/dist \
    && python3 -m venv --without-pip /opt/nlsim \
    && /opt/build/bin/uv pip install --quiet --python /opt/nlsim --no-deps /tmp/dist/*.whl \
    && chmod 444 /opt/nlsim/.lock

FROM scratch AS runtime
COPY --from=system /rootfs /
# Writable places are all below /tmp: the root file system is read-only.
ENV PATH=/opt/nlsim/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/tmp/.cache TRITON_CACHE_DIR=/tmp/.cache/triton TORCHINDUCTOR_CACHE_DIR=/tmp/.cache/inductor \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["nlsim"]
CMD ["--help"]

FROM runtime AS cpu
COPY --from=cpu-packages /opt/nlsim /opt/nlsim
COPY --from=project /opt/nlsim /opt/nlsim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nlsim-cpu" \
      org.opencontainers.image.description="nlsim stages that need no torch; planning, reports, submission" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS model
COPY --from=model-packages /opt/nlsim /opt/nlsim
COPY --from=project /opt/nlsim /opt/nlsim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nlsim-model" \
      org.opencontainers.image.description="nlsim stages that run a model with torch, on CPUs or NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# An S3-compatible store for development clusters.
FROM ${GO} AS gateway
ARG VERSITYGW_VERSION=v1.7.0
RUN --mount=type=cache,target=/go GOPATH=/go GOBIN=/out CGO_ENABLED=0 \
    go install -trimpath -ldflags "-s -w" github.com/versity/versitygw/cmd/versitygw@${VERSITYGW_VERSION}

FROM scratch AS store
COPY --from=gateway /out/versitygw /usr/bin/versitygw
COPY --from=system /rootfs/etc /etc
ENV PATH=/usr/bin
USER 10001:10001
ENTRYPOINT ["versitygw"]

# vLLM compiles kernels when it starts, so this image keeps a C compiler and a whole Debian.
FROM ${BASE} AS vllm
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc g++ libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=system /rootfs/etc/passwd /rootfs/etc/group /etc/
COPY --from=vllm-packages /opt/nlsim /opt/nlsim
COPY --from=project /opt/nlsim /opt/nlsim
ENV PATH=/opt/nlsim/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/tmp/.cache TRITON_CACHE_DIR=/tmp/.cache/triton TORCHINDUCTOR_CACHE_DIR=/tmp/.cache/inductor \
    VLLM_CACHE_ROOT=/tmp/.cache/vllm VLLM_NO_USAGE_STATS=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["nlsim"]
CMD ["--help"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nlsim-vllm" \
      org.opencontainers.image.description="nlsim with the vLLM engine, and vLLM's own server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
