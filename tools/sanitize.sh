#!/usr/bin/env bash
# The kernel tests at small shapes under NVIDIA's compute-sanitizer: memcheck finds accesses outside of what was
# allocated, racecheck finds threads that race in shared memory.
#
#   [PYTHON=python3] tools/sanitize.sh [memcheck] [racecheck]      both where none is named
#
# Ends with 0 when both are clean, 1 when not, 2 when this machine cannot tell. PYTHON needs torch, triton,
# transformers and pytest; the package itself is read from src/.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH}
export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin TRITON_INTERPRET=0 TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$PWD/build/triton}
tools=("$@")
[ $# -gt 0 ] || tools=(memcheck racecheck)

refuse() { echo "error: $1" >&2; exit 2; }
for tool in "${tools[@]}"; do
    case $tool in memcheck | racecheck) ;; *) refuse "there is no tool $tool: say memcheck, racecheck or nothing." ;; esac
done
command -v compute-sanitizer >/dev/null ||
    refuse "compute-sanitizer is not installed: install NVIDIA's CUDA toolkit, or put its bin folder on PATH."
nvidia-smi -L >/dev/null 2>&1 || refuse "no NVIDIA GPU answers to nvidia-smi: run this on a machine with one."

# Our kernels alone: names of torch's begin with _ZN.
# No limit for the time until CUDA starts: on a busy host importing torch takes longer than the default 10 s.
check=(compute-sanitizer --launch-timeout 0 --target-processes application-only --error-exitcode 99 --kernel-name 'regex=^_[a-z_]+_kernel$')

# Small shapes in fp16; racecheck follows every access to shared memory, so of the 30 searches it gets 2.
all="not full and not compile and not bf16 and not fp32"
memcheck=$all
racecheck="$all and (fp16 or 0-5-1.0-False-12 or 0-1-1.0-False-10)"
tests() { "$@" "$PYTHON" -m pytest -q -p no:cacheprovider tests/kernels -k "$selection"; }

# Without the sanitizer first: a test that fails is another matter, and the sanitized runs find kernels compiled.
selection=$all
tests env || { echo "error: the tests fail without the sanitizer too." >&2; exit 1; }

# For memcheck each tensor is an allocation of its own, so that it sees where one ends. (Set to 0, it is set.)
alone=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1)
seen=0
"${alone[@]}" "${check[@]}" --tool memcheck "$PYTHON" tools/planted_error.py >/dev/null 2>&1 || seen=$?
[ $seen -eq 99 ] || refuse "compute-sanitizer ended with $seen, not 99, on tools/planted_error.py: it does not see kernels here."

status=0
for tool in "${tools[@]}"; do
    echo "== $tool"
    prefix=(env)
    [ "$tool" = racecheck ] || prefix=("${alone[@]}")
    selection=${!tool}
    tests "${prefix[@]}" "${check[@]}" --tool "$tool" || status=1
done
exit $status
