# One image for every role: `docker run promgithub ingest`, `… processor`, `… migrate`, and so on.
# The digest is that of the tag's list of platforms.
ARG PYTHON=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/promgithub
COPY pyproject.toml README.md LICENSE deploy/image/requirements.txt ./
COPY ingest ingest
COPY processor processor
COPY promgithub promgithub
COPY shared shared
# Every dependency has a wheel, so that nothing is compiled here; --only-binary sees to it that this stays so. Each is
# checked against its hash, also setuptools, which builds promgithub and is then removed.
RUN pip --python /opt/promgithub/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --no-deps --require-hashes --requirement requirements.txt && \
    pip --python /opt/promgithub/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation . && \
    pip --python /opt/promgithub/bin/python uninstall --yes setuptools

FROM ${PYTHON}
LABEL org.opencontainers.image.title="promgithub" \
      org.opencontainers.image.description="GitHub webhooks in, Prometheus metrics about CI out" \
      org.opencontainers.image.licenses="MIT"
RUN pip uninstall --yes --root-user-action=ignore pip && \
    groupadd --system --gid 65532 promgithub && \
    useradd --system --uid 65532 --gid promgithub --no-create-home --home-dir /var/lib/promgithub promgithub && \
    install --directory --mode=0700 --owner=promgithub --group=promgithub /var/lib/promgithub
COPY --from=build /opt/promgithub /opt/promgithub
COPY deploy/image/healthcheck.py /opt/promgithub/healthcheck.py
ENV PATH=/opt/promgithub/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The root file system may be read-only: only what is mounted here is written, a spool or the data of standalone.
WORKDIR /var/lib/promgithub
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080 8081 8082
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "/opt/promgithub/healthcheck.py", "/livez"]
# No shell in between: the signals reach the process itself. The kernel drops a signal that process 1 neither handles nor
# blocks. `env` blocks SIGTERM, so that it waits until promgithub handles it, about a second later.
ENTRYPOINT ["env", "--block-signal=TERM", "promgithub"]
