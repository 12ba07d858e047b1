# Image of Ray head and workers, sweeps, and the MLflow server:
#   docker build -f deploy/sweep.Dockerfile -t semscale-sweep:0.1.0 .
# Ray and Python are those of constraints.txt; all nodes of a cluster need the same ones.
FROM rayproject/ray:2.60.0-py311-cpu

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# WordNet, for the strategies that use it; a new volume gets the owner of the folder that it is mounted on
USER 0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends wordnet-base wordnet-sense-index \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 1000 -g 100 /data /artifacts
USER 1000:100

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
WORKDIR /home/ray/semscale
# a separate layer: packages change rarely, code often
COPY --chown=1000:100 constraints.txt pyproject.toml README.md LICENSE ./
RUN mkdir semscale && touch semscale/__init__.py \
    && pip install -c constraints.txt ".[s3,gcs,postgres]" && pip uninstall -y semscale && rm -r semscale
COPY --chown=1000:100 semscale semscale
COPY --chown=1000:100 ray_jobs ray_jobs
RUN pip install --no-deps -c constraints.txt . && rm -rf build

# jina needs a writable folder, and the home of a read-only container is not
ENV DO_NOT_TRACK=true \
    JINA_HUB_ROOT=/tmp/.jina \
    JINA_OPTOUT_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    NO_VERSION_CHECK=1 \
    RAY_USAGE_STATS_ENABLED=0

EXPOSE 6379 8265
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=5 CMD ["ray", "health-check"]
# by default the dashboard listens on loopback only; RAY_AUTH_MODE=token requires a token from every client
CMD ["ray", "start", "--head", "--block", "--disable-usage-stats"]
