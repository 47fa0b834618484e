# palate's server on CPUs: docker build -f docker/cpu.Dockerfile -t palate:cpu .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/palate \
    && /opt/palate/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt ".[minilm,serve,postgresql,gguf,index]"

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 palate
COPY --from=build /opt/palate /opt/palate
ENV PATH=/opt/palate/bin:$PATH
USER 10001
WORKDIR /home/palate
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["palate"]
CMD ["serve", "/runs/served", "--host", "0.0.0.0", "--api-key-file", "/run/secrets/palate-keys"]
