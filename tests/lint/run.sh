#!/bin/sh
# Runs every check of this folder against the tree and a build: tests/lint/run.sh [BUILD].
# Each check prints what is wrong as file:line: text, and nothing when all is well.
set -u
cd "$(dirname "$0")/../.."
build=${1:-build/release}
failed=0
for check in deps names headers banned scripts; do
    if out=$(sh "tests/lint/$check.sh" "$build" 2>&1); then
        echo "ok    $check"
    else
        echo "FAIL  $check"
        failed=1
    fi
    [ -z "$out" ] || echo "$out" | sed 's/^/      /'
done
sh tests/lint/size.sh || failed=1
exit $failed
