# One image for every role: `docker run promgithub ingest`, `… processor`, `… migrate`, and so on.
# The digest is that of the tag's list of platforms.
ARG PYTHON=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/promgithub
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ingest ingest
COPY processor processor
COPY promgithub promgithub
COPY shared shared
# Every dependency has a wheel, so that nothing is compiled here; --only-binary sees to it that this stays so.
RUN pip --python /opt/promgithub/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --constraint constraints.txt .

FROM ${PYTHON}
LABEL org.opencontainers.image.title="promgithub" \
      org.opencontainers.image.description="GitHub webhooks in, Prometheus metrics about CI out" \
      org.opencontainers.image.licenses="MIT"
RUN pip uninstall --yes --root-user-action=ignore pip && \
    useradd --system --uid 65532 --user-group --no-create-home --home-dir /var/lib/promgithub promgithub && \
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
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["python", "/opt/promgithub/healthcheck.py", "/livez"]
# No shell in between: the signals reach the process itself.
ENTRYPOINT ["promgithub"]
