ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# The libraries first: they change less often than the code.
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/relay \
 && /opt/relay/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python3 -m venv tools \
 && tools/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY relay relay
RUN tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheels . \
 && /opt/relay/bin/pip install --no-cache-dir --no-deps --no-index wheels/*.whl

FROM ${PYTHON_IMAGE}
RUN useradd --system --user-group --no-create-home --home-dir /var/lib/relay --shell /usr/sbin/nologin relay \
 && install -d -o relay -g relay -m 0700 /var/lib/relay
COPY --from=build /opt/relay /opt/relay
# Inside a container only the container itself is on loopback, so the listener must be on every address. Who may send is
# another matter: clients from elsewhere need RELAY_SUBMISSION__TRUSTED_NETWORKS, or TLS and a password.
# glibc: without the last one each TLS connection takes 52 KiB of memory instead of 32 (docs/bench.md).
ENV PATH=/opt/relay/bin:$PATH \
    RELAY_STATE=/var/lib/relay \
    RELAY_SUBMISSION__LISTEN=0.0.0.0:2525 \
    MALLOC_MMAP_THRESHOLD_=131072
USER relay
VOLUME /var/lib/relay
EXPOSE 2525
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s CMD ["relay", "health"]
CMD ["relay", "run"]
