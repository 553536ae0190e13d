# The service of a promoted bundle; see docs/serving.md, "In a container".
FROM debian:bookworm-slim AS build

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
# PyPI's torch for Linux brings gigabytes for GPUs; an index can be named that has its CPU build, for torch alone: of two
# indices at once pip would take any package from either.
ARG TORCH_INDEX
ARG PIP_FIND_LINKS
# hqq's build script would otherwise try to compile CUDA kernels.
ENV DISABLE_CUDA=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/reliabit
WORKDIR /source
# What changes seldom first: the versions of the lock, of what the service needs alone.
COPY pyproject.toml requirements.lock ./
RUN if [ -n "$TORCH_INDEX" ]; then \
        /opt/reliabit/bin/pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.lock)"; \
    fi
RUN /opt/reliabit/bin/python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['serve'], sep='\n')" > needed.txt \
    && /opt/reliabit/bin/pip install --constraint requirements.lock --requirement needed.txt
COPY . .
RUN /opt/reliabit/bin/pip install --no-deps .

FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home reliabit
COPY --from=build /opt/reliabit /opt/reliabit
ENV PATH=/opt/reliabit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
USER reliabit
WORKDIR /home/reliabit
EXPOSE 8000
# A model may take a while to load; until it has, nobody can connect.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["reliabit", "serve", "--host", "0.0.0.0", "--port", "8000", "--bundle", "/bundle"]
