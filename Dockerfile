# By digest, so that what is built is what was tried; CONTRIBUTING.md says how to renew it.
FROM python:3.13.15-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=3002 \
    DATA_DIR=/data

RUN useradd --system --user-group --no-create-home --home-dir /app chatproxy \
    && install --directory --owner=chatproxy --group=chatproxy --mode=0700 /data

WORKDIR /app
COPY requirements/base.txt requirements/base.txt
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements/base.txt
COPY . .
RUN python -m compileall -q chatproxy proxyapi usage

USER chatproxy
VOLUME /data
EXPOSE 3002

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]

CMD ["python", "manage.py", "serve"]
