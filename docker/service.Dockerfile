# The online service: REST on 8000, gRPC on 50051. No torch, no compiler, no pip beside it; runs as user 10001.
#
#   docker build -f docker/service.Dockerfile -t plotpointe-service .
#
# docs/CONTAINERS.md: pinning the base by digest, a private package index, building without an engine.

# Any base that has python3 (3.11 to 3.13) with venv. `name@sha256:...` pins it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Parts of pyproject.toml's optional dependencies. `service,gpu,encoders` searches on a GPU; `load` makes the load tester's image.
ARG EXTRAS=service,cpu,encoders
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# One pip that stays behind, one environment that is copied.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/plotpointe
WORKDIR /src
# Dependencies first, with the packages still empty: a change of code does not fetch them again.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    mkdir service protos training offline_jobs && touch README.md \
    && /opt/pip/bin/pip --python /opt/plotpointe/bin/python install --quiet -c constraints.txt ".[${EXTRAS}]"
COPY README.md ./
COPY service service
COPY protos protos
COPY training training
COPY offline_jobs offline_jobs
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    /opt/pip/bin/pip --python /opt/plotpointe/bin/python install --quiet --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PlotPointe service" \
      org.opencontainers.image.description="Low-latency shop recommendations over REST and gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The same user in both images: the jobs write the bundles that the service reads. A new volume takes this ownership over.
RUN groupadd --gid 10001 plotpointe \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/plotpointe --no-create-home --shell /usr/sbin/nologin plotpointe \
    && install -d -o 10001 -g 10001 /var/lib/plotpointe /var/lib/plotpointe/bundles /var/lib/plotpointe/events \
        /var/lib/plotpointe/state
COPY --from=build /opt/plotpointe /opt/plotpointe
ENV PATH=/opt/plotpointe/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    PLOTPOINTE_HOST=0.0.0.0 \
    PLOTPOINTE_BUNDLES=/var/lib/plotpointe/bundles \
    PLOTPOINTE_EVENTS_DIR=/var/lib/plotpointe/events \
    PLOTPOINTE_STATE_DIR=/var/lib/plotpointe/state
WORKDIR /var/lib/plotpointe
USER 10001:10001
EXPOSE 8000 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('PLOTPOINTE_REST_PORT') or 8000), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["plotpointe-serve"]
