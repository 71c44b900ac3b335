# The server on x86-64 (or arm64) Linux, and with it classify, camera and doctor.
#
#   docker build -f docker/server.Dockerfile -t taijitu-server .
#   docker build -f docker/server.Dockerfile -t taijitu-server:cuda --build-arg EXTRA=server-cuda .
#
# Debian's own Python, so that debootstrap can make the base image where no registry can be reached.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
# EXTRA: server-cpu, or server-cuda with CUDA's libraries from the package index; the driver comes with --gpus.
ARG EXTRA=server-cpu
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
        "taijitu[${EXTRA}] @ file://$(echo /wheels/*.whl)"

FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin taijitu \
    && install -d -o taijitu -g taijitu -m 0700 /cache \
    && install -d /models
COPY --from=build /opt/taijitu /opt/taijitu
COPY docker/healthcheck.py /opt/taijitu/healthcheck.py
ENV PATH=/opt/taijitu/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/cache \
    TAIJITU_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "/opt/taijitu/healthcheck.py"]
ENTRYPOINT ["taijitu"]
CMD ["serve", "--models", "/models", "--reload-s", "5"]
