# The server with TensorRT for RTX; for other GPUs add --build-arg EXTRA=tensorrt. Build from the repository's root: docker build -f docker/cuda.Dockerfile -t avatar-stream:cuda .
# Run with the NVIDIA container toolkit: docker run --gpus all …. The driver comes from the host, the rest from pip.
FROM python:3.11-slim-bookworm AS build
ARG EXTRA=tensorrt-rtx
WORKDIR /src
COPY scripts/setup.sh scripts/setup.sh
RUN sh scripts/setup.sh venv /opt/avatar
COPY pyproject.toml README.md LICENSE ./
COPY avatar_stream avatar_stream
COPY client_demo client_demo
RUN /opt/avatar/bin/pip install --no-cache-dir ".[${EXTRA}]"

FROM python:3.11-slim-bookworm
COPY scripts/setup.sh /tmp/setup.sh
RUN sh /tmp/setup.sh libraries && rm -rf /var/lib/apt/lists/* /tmp/setup.sh \
    && useradd --create-home --uid 10001 avatar \
    && install -d -o avatar -g avatar /cache
COPY --from=build /opt/avatar /opt/avatar
USER 10001
# If this folder is a volume, compiled plans outlive the container.
ENV PATH=/opt/avatar/bin:$PATH XDG_CACHE_HOME=/cache NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /cache
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["avatar-stream"]
CMD ["serve", "--host", "0.0.0.0"]
