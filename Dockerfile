# Two images from one context: docker build --target teacher . and docker build --target student .
FROM python:3.12-slim AS base
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY server server
COPY client client
ENV PYTHONUNBUFFERED=1 HF_HOME=/models

FROM base AS teacher
RUN pip install --no-cache-dir '.[server]' && useradd --create-home pad && mkdir -p /models && chown pad /models
USER pad
VOLUME /models
EXPOSE 8010
# A 9B model takes minutes to load; until then the service is live but not ready.
HEALTHCHECK --start-period=10m --interval=15s --timeout=5s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8010/v1/health/ready')"]
# Listening beyond the container needs keys: mount a key file and pass --keys, or --allow-anonymous.
ENTRYPOINT ["pad-teacher", "serve", "--host", "0.0.0.0"]

FROM base AS student
RUN pip install --no-cache-dir '.[client]' && useradd --create-home pad && mkdir -p /models /runs && chown pad /models /runs
USER pad
VOLUME /models
WORKDIR /runs
ENTRYPOINT ["pad-student"]
