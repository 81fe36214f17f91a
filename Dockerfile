# Two images: `api` (API, CLI and migrations, without torch) and `worker` (with torch, timm and the default weights).
FROM python:3.13-slim AS api
WORKDIR /srv/lookalike
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations
COPY sql sql
RUN pip install --no-cache-dir --no-compile -c constraints.txt . \
    && useradd --system --uid 10001 --home-dir /var/lib/lookalike --create-home lookalike \
    && install -d -o lookalike /var/lib/lookalike/uploads /var/cache/lookalike
ENV LOOKALIKE_HOME=/var/lib/lookalike LOOKALIKE_HOST=0.0.0.0 PYTHONUNBUFFERED=1
USER lookalike
EXPOSE 8000
CMD ["lookalike", "serve"]

FROM api AS worker
USER root
RUN pip install --no-cache-dir --no-compile -c constraints.txt '.[worker]'
USER lookalike
CMD ["lookalike", "worker"]
