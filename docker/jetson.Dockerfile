# Engines, the server and the camera on a Jetson with JetPack 6, with JetPack's TensorRT and the system's OpenCV.
#
#   docker build -f docker/jetson.Dockerfile -t taijitu-jetson --build-arg BASE=... .
#
# BASE has no default: it is NVIDIA's l4t-jetpack image for the JetPack of the board (r36.4.0 for 6.1 and 6.2), or any
# other with that JetPack's TensorRT and its Python module. docs/jetson.md tells more.
ARG BASE

FROM ${BASE} AS system
# GStreamer's plugins read cameras and streams; nvarguscamerasrc and nvv4l2decoder are mounted by NVIDIA's runtime.
# An OpenCV that the base brings is kept. Without TensorRT's module this stops here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        gstreamer1.0-plugins-bad gstreamer1.0-plugins-good python3 \
    && { python3 -c "import cv2" 2>/dev/null || apt-get install --yes --no-install-recommends python3-opencv; } \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -c "import importlib.metadata as found; print('TensorRT', found.version('tensorrt'))"

FROM system AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The wheel, with the native Nish compiled.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /build \
    && /build/bin/pip install --constraint constraints.txt hatchling \
    && /build/bin/python -m hatchling build -t wheel -d /wheels
# The extra keeps NumPy at 1, for the system's OpenCV, and cuda-bindings at the CUDA of this JetPack: those versions, and
# what is bound to them, are not the ones in constraints.txt.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --system-site-packages /opt/taijitu \
    && sed -E '/^(numpy|ml-dtypes|cuda-bindings|cuda-pathfinder)==/d' constraints.txt > /constraints.txt \
    && /opt/taijitu/bin/pip install --only-binary :all: --constraint /constraints.txt \
        "taijitu[server-jetson] @ file://$(echo /wheels/*.whl)"

FROM system
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin taijitu \
    && install -d -o taijitu -g taijitu -m 0700 /cache \
    && install -d /models
COPY --from=build /opt/taijitu /opt/taijitu
COPY docker/healthcheck.py /opt/taijitu/healthcheck.py
ENV PATH=/opt/taijitu/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/cache \
    TAIJITU_HOST=0.0.0.0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=all
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "/opt/taijitu/healthcheck.py"]
ENTRYPOINT ["taijitu"]
CMD ["serve", "--models", "/models", "--reload-s", "5"]
