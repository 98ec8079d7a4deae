# syntax=docker/dockerfile:1
# The image of the operator: make image
#
# The base is Debian's glibc, which the wheels of some dependencies need; Alpine's musl will not do. Both
# stages use the same one, for the environment links to its Python. Pin it by its digest in a registry
# of yours: --build-arg BASE=registry.example.com/python@sha256:...
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
COPY requirements/run.txt /build/
# Exact versions, checked by their hashes; nothing is compiled, so no compiler is needed.
RUN python -m venv --without-pip /opt/resumer \
    && python -m pip --python /opt/resumer/bin/python install --no-cache-dir --no-compile \
        --disable-pip-version-check --only-binary :all: --require-hashes --requirement /build/run.txt
COPY operator/resumer /build/resumer
# Bytecode is written here, since nothing can be written later.
RUN cp -r /build/resumer "$(/opt/resumer/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && printf '#!/opt/resumer/bin/python\nfrom resumer.__main__ import main\n\nmain()\n' >/opt/resumer/bin/resumer \
    && chmod 755 /opt/resumer/bin/resumer \
    && /opt/resumer/bin/python -m compileall -q /opt/resumer/lib

FROM ${BASE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Resumer" \
      org.opencontainers.image.description="Resumes the one suspended Argo Workflow that an event means, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/resumer /opt/resumer
COPY LICENSE /opt/resumer/LICENSE
ENV PATH=/opt/resumer/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes sees that it is not root; any other does as well.
USER 65532:65532
EXPOSE 9402
ENTRYPOINT ["resumer"]
CMD ["run"]
