# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /venv
COPY pyproject.toml setup.py constraints.txt LICENSE ./
COPY alembic alembic
COPY ledger ledger
COPY projections projections
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[nats]'

FROM python:3.13-slim
RUN useradd --system --create-home --home-dir /data --uid 10001 ledger
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LEDGER_HOST=0.0.0.0 \
    LEDGER_PORT=4242 \
    LEDGER_DATA_DIR=/data/ledger
WORKDIR /data
USER ledger
VOLUME /data
EXPOSE 4242
# A worker answers on LEDGER_HEALTH_PORT.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + (os.environ.get('LEDGER_HEALTH_PORT') or os.environ['LEDGER_PORT']) + '/healthz', timeout=2)"]
ENTRYPOINT ["ledger"]
CMD ["serve"]
