# The server on a CPU. Build from the repository's root: docker build -f docker/cpu.Dockerfile -t avatar-stream .
# The build uses the same set-up script as `make demo`.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY scripts/setup.sh scripts/setup.sh
RUN sh scripts/setup.sh venv /opt/avatar
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY avatar_stream avatar_stream
COPY client_demo client_demo
# The tested versions. pyproject.toml has open ranges, for installations beside other packages.
RUN /opt/avatar/bin/pip install --no-cache-dir -r requirements.lock && /opt/avatar/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
COPY scripts/setup.sh /tmp/setup.sh
RUN sh /tmp/setup.sh libraries && rm -rf /var/lib/apt/lists/* /tmp/setup.sh \
    && useradd --create-home --uid 10001 avatar
COPY --from=build /opt/avatar /opt/avatar
USER 10001
ENV PATH=/opt/avatar/bin:$PATH
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["avatar-stream"]
CMD ["serve", "--host", "0.0.0.0"]
