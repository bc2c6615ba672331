# Written by trending_now.delivery.workflows: change page `workflows`.
FROM python:3.11-slim-bookworm@sha256:b18992999dbe963a45a8a4da40ac2b1975be1a776d939d098c647482bcad5cba
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /srv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY trending_now trending_now
RUN pip install --no-cache-dir -c constraints.txt '.[delivery,platform]' \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin films \
    && install -d -o 10001 /var/films
ARG VERSION
COPY model/${VERSION} /models/${VERSION}
ENV MODEL_FOLDER=/models/${VERSION}
USER 10001
VOLUME /var/films
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health')"]
ENTRYPOINT ["trending-now", "serve", "--host", "0.0.0.0", "--port", "8080", \
    "--workspace", "/var/films"]
