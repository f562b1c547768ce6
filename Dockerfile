# The gateway in a small image: it needs no write outside /tmp, no capability and no root.
#
#   docker build -t polygate .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 8080:8080 -p 8081:8081 -p 9090:9090 -p 9900:9900 polygate
#
# It runs /app/config/gateway.yaml: mount yours there, or name another: docker run ... polygate run /etc/polygate.yaml
# The embedded log goes to /tmp and with the container, unless it is told to a volume:
#
#   docker run ... -e POLYGATE_VAR=/var/lib/polygate -v orders:/var/lib/polygate polygate
#
# Behind an index of your own, or an authority of your own: `make image` hands pip's settings in; by hand,
#
#   docker build --secret id=pip,src=/etc/pip.conf --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt .

FROM python:3.13-slim AS build
WORKDIR /src

# The tools that make the wheel stay in this stage; pip installs into the other environment from outside of it.
COPY requirements/build.txt requirements/run.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && python -m venv --without-pip /opt/polygate \
 && /opt/build/bin/pip --python /opt/polygate/bin/python install --no-cache-dir --require-hashes -r requirements/run.txt

COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY adapters adapters
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /src/dist . \
 && /opt/build/bin/pip --python /opt/polygate/bin/python install --no-cache-dir --no-index --no-deps dist/*.whl

FROM python:3.13-slim
WORKDIR /app

# A folder that a named volume takes its owner from; without a volume nothing is written there.
RUN install -d -o 65532 -g 65532 /var/lib/polygate

COPY --from=build /opt/polygate /opt/polygate
COPY protos protos
COPY config config

ENV PATH=/opt/polygate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    POLYGATE_HOST=0.0.0.0 \
    POLYGATE_VAR=/tmp/polygate

USER 65532:65532
# REST with SSE, WebSocket, gRPC, admin
EXPOSE 8080 8081 9090 9900
STOPSIGNAL SIGTERM

# Standard library alone (-S) so that a check costs little; whether the process lives, not whether its backends do.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=1s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9900, timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["polygate"]
CMD ["run", "/app/config/gateway.yaml"]
