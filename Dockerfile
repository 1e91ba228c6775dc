# By digest, so that what is built is what was tried; CONTRIBUTING.md says how to renew it.
FROM python:3.13.15-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=3002 \
    DATA_DIR=/data

# The number that `useradd --system` gives to the first account of this image, so volumes of older images are its own.
RUN groupadd --system --gid 999 chatproxy \
    && useradd --system --uid 999 --gid 999 --no-create-home --home-dir /app chatproxy \
    && install --directory --owner=999 --group=999 --mode=0700 /data

WORKDIR /app
COPY requirements/base.txt requirements/base.txt
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements/base.txt
COPY . .
RUN python -m compileall -q chatproxy proxyapi usage

# A number: Kubernetes cannot tell of a name whether it is root's. Only /data and /tmp are written to.
USER 999:999
VOLUME /data
EXPOSE 3002

# Healthy as long as calls may be sent here, also while the database is away: a new start would not bring it back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import http.client, os; server = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
    server.request('GET', '/readyz'); raise SystemExit(server.getresponse().status != 200)"]

CMD ["python", "manage.py", "serve"]
