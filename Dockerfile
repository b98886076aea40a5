# Build and run with `make docker`. The base brings what a GPU container needs; torch brings its own CUDA libraries.
# Another CUDA release: docker build --build-arg BASE=nvidia/cuda:TAG . with a runtime tag on Ubuntu 24.04, whose Python
# is 3.12. No GPU at all: --build-arg BASE=ubuntu:24.04 --build-arg TORCH=cpu.
# `make docker-check` lints this file and runs its commands where there is no container engine.
ARG BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04
FROM ${BASE} AS tools

# gcc and Python's headers: Triton compiles a small launcher for each kernel when it first runs.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc git libc6-dev make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --shell /bin/bash whisper
USER whisper
# Made by the user, so that what is mounted, copied or written here is the user's and not root's.
RUN mkdir -p /home/whisper/.cache/huggingface \
        /home/whisper/whisper-speedup/samples /home/whisper/whisper-speedup/src/whisper_speedup
WORKDIR /home/whisper/whisper-speedup

# What a development container needs is there by now (.devcontainer/devcontainer.json); the rest is the benchmark.
FROM tools
# The build cannot see a GPU, so TORCH is said here and not found out.
ARG TORCH=cuda
# An index that offers torch's CPU build, for TORCH=cpu; only the build sees it.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1
# First what the installation reads, so that an edited source file does not install everything again.
COPY --chown=whisper:whisper Makefile pyproject.toml requirements*.lock README.md LICENSE ./
COPY --chown=whisper:whisper samples/LICENSE samples/LICENSE
COPY --chown=whisper:whisper tools tools
COPY --chown=whisper:whisper src/whisper_speedup/__init__.py src/whisper_speedup/__init__.py
RUN make setup TORCH=${TORCH}

COPY --chown=whisper:whisper . .
CMD ["make", "reproduce"]
