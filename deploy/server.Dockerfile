# Image of the clip-server, for GPUs and CPUs:
#   docker build -f deploy/server.Dockerfile -t semscale-server:0.1.0 .
# torch's wheels bring their own CUDA libraries, so NVIDIA's smallest image is enough: it requires a driver of its
# major version, which is torch's (constraints.txt), and tells the container toolkit which libraries to mount.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/semscale/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN python3 -m venv /opt/semscale

WORKDIR /build
# a separate layer: packages change rarely, code often
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir semscale && touch semscale/__init__.py && pip install -c constraints.txt ".[server]" && pip uninstall -y semscale
COPY semscale semscale
RUN pip install --no-deps -c constraints.txt . && rm -rf /build/*

# a new volume gets the owner of the folder that it is mounted on
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin semscale \
    && install -d -o 10001 -g 10001 /home/semscale/weights
USER 10001:10001
WORKDIR /home/semscale
# weights from a hub are kept here; jina needs a writable folder, and the home of a read-only container is not
ENV HF_HOME=/home/semscale/weights \
    JINA_HUB_ROOT=/tmp/.jina \
    JINA_OPTOUT_TELEMETRY=1 \
    NO_VERSION_CHECK=1

EXPOSE 51000
HEALTHCHECK --interval=30s --timeout=15s --start-period=300s --retries=3 \
    CMD ["semscale", "health", "grpc://127.0.0.1:51000", "--timeout", "12"]
ENTRYPOINT ["semscale"]
CMD ["serve", "--host", "0.0.0.0", "--gpus", "all"]
