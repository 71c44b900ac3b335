# Training and export, on a CPU or, with --gpus all, on an NVIDIA GPU: the index's torch has CUDA's libraries.
#
#   docker build -f docker/train.Dockerfile -t taijitu-train .
#
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The wheel, with the native Nish compiled.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /build \
    && /build/bin/pip install --constraint constraints.txt hatchling \
    && /build/bin/python -m hatchling build -t wheel -d /wheels
# Its packages, none of which is compiled here.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/taijitu \
    && pip --python /opt/taijitu/bin/python install --only-binary :all: --constraint constraints.txt \
        "taijitu[export] @ file://$(echo /wheels/*.whl)"

FROM ${BASE}
# torch.compile, and with it Nish in training, compiles C++ while it runs, and calls openssl: this image alone keeps a
# compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ openssl python3 python3-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin taijitu \
    && install -d -o taijitu -g taijitu -m 0700 /cache /runs \
    && install -d /data /models
COPY --from=build /opt/taijitu /opt/taijitu
ENV PATH=/opt/taijitu/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/cache/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor \
    TRITON_CACHE_DIR=/cache/triton \
    XDG_CACHE_HOME=/cache
USER 10001:10001
WORKDIR /runs
ENTRYPOINT ["taijitu"]
CMD ["train", "--help"]
