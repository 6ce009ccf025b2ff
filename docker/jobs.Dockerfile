# The offline half: `plotpointe-jobs` and `plotpointe-train`, on torch's CPU build. Runs as user 10001.
#
#   docker build -f docker/jobs.Dockerfile -t plotpointe-jobs .
#
# docs/CONTAINERS.md: pinning the base by digest, a private package index, building without an engine.

# Any base that has python3 (3.11 to 3.13) with venv. `name@sha256:...` pins it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Parts of pyproject.toml's optional dependencies.
ARG EXTRAS=jobs,cpu
# The URL of PyTorch's index of CPU wheels: the default index has CUDA's, which are ten times as large. pip takes the
# local version (2.13.0+cpu) over the plain one, and constraints.txt admits both. Empty: the index of pip.conf has them.
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# This environment keeps its pip: it fetches the pretrained weights.
RUN python3 -m venv /opt/plotpointe
WORKDIR /src
# Dependencies first, with the packages still empty: a change of code does not fetch them again.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    mkdir service protos training offline_jobs && touch README.md \
    && /opt/plotpointe/bin/pip install --quiet -c constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[${EXTRAS}]" \
    && /opt/plotpointe/bin/python -c "import torch; assert torch.version.cuda is None, 'torch is a CUDA build: set TORCH_INDEX to the index of CPU wheels'"
COPY README.md ./
COPY service service
COPY protos protos
COPY training training
COPY offline_jobs offline_jobs
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    /opt/plotpointe/bin/pip install --quiet --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PlotPointe jobs" \
      org.opencontainers.image.description="A shop's files in, a bundle of models and indexes out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The same user in both images: the jobs write the bundles that the service reads. A new volume takes this ownership over.
RUN groupadd --gid 10001 plotpointe \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/plotpointe --no-create-home --shell /usr/sbin/nologin plotpointe \
    && install -d -o 10001 -g 10001 /var/lib/plotpointe /var/lib/plotpointe/bundles /var/lib/plotpointe/work
COPY --from=build /opt/plotpointe /opt/plotpointe
ENV PATH=/opt/plotpointe/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HOME=/var/lib/plotpointe/work/huggingface \
    PLOTPOINTE_WEIGHTS_DIR=/var/lib/plotpointe/work/weights
WORKDIR /var/lib/plotpointe
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["plotpointe-jobs"]
CMD ["--help"]
