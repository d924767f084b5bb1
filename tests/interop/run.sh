#!/bin/sh
# run.sh - bergson from the Python registry in a virtual environment of its own, a store built with it, and
# its scores beside ours. Says so and ends well where the registry is not reachable.
set -eu
cd "$(dirname "$0")/../.."
venv=build/interop/venv
if ! [ -e build/interop/ready ]; then
    mkdir -p build/interop
    python3 -m venv "$venv"
    # The build of PyTorch without CUDA where the registry has it: a tenth of the size.
    if ! "$venv/bin/pip" -q install "torch==2.13.0+cpu" bergson > build/interop/pip.log 2>&1 &&
        ! "$venv/bin/pip" -q install bergson >> build/interop/pip.log 2>&1; then
        echo "interop: skipped: bergson could not be installed (build/interop/pip.log says why)"
        exit 0
    fi
    # Not used here, and not of the same build as that PyTorch.
    "$venv/bin/pip" -q uninstall -y torchvision torchaudio >> build/interop/pip.log 2>&1 || true
    touch build/interop/ready
fi
exec /usr/bin/python3 tests/interop/interop.py -v
