# One image for the router, the exporter, the simulator and Compose's init service.
# The base is pinned here, the packages by requirements.lock, with hashes.
#
# `runtime` is what Compose's router runs in: no code, so that it stays as it is when
# the code changes (launcher/releases.py). Its tag in docker-compose.yml is Python's.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM $PYTHON AS runtime
# 10001: no user of the host; files that it writes stand out.
RUN groupadd --gid 10001 inferops \
    && useradd --uid 10001 --gid inferops --no-create-home --shell /usr/sbin/nologin inferops \
    && install --directory --owner inferops --group inferops /var/lib/inferops
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER inferops

FROM $PYTHON AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
# requirements-opentelemetry.lock has what traces need besides.
ARG LOCK=requirements.lock
COPY ${LOCK} requirements.lock
RUN /opt/venv/bin/pip install --require-hashes --requirement requirements.lock \
    && /opt/venv/bin/pip uninstall --yes pip setuptools \
    && cp requirements.lock /opt/venv/
WORKDIR /app
COPY alerting alerting
COPY exporters exporters
COPY launcher launcher
COPY router router
COPY simulator simulator
# A checkout may be its owner's only; the image is for its user.
RUN chmod -R a+rX . && /opt/venv/bin/python -m compileall -q .

FROM runtime
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH
CMD ["gunicorn", "-c", "router/gunicorn.conf.py", "router.wsgi:app"]
