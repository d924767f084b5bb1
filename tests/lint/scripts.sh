#!/bin/sh
# scripts.sh - shell scripts parse (and pass shellcheck where it is installed); Python compiles.
set -u
failed=0
# Of a repository what it tracks; of an unpacked archive what is there.
files() { # GIT-PATTERN NAME-PATTERN
    git ls-files "$1" 2>/dev/null | grep . || find . -name "$2" -not -path './build*' | sort
}
scripts="$(files '*.sh' '*.sh') .ci/run"
for f in $scripts; do
    sh -n "$f" || failed=1
    head -1 "$f" | grep -q '^#' || {
        echo "$f:1: neither #!/bin/sh nor a comment that says who reads it in"
        failed=1
    }
done
if command -v shellcheck >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # a list of files on purpose
    shellcheck -s sh $scripts || failed=1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
files '*.py' '*.py' | while read -r f; do
    /usr/bin/python3 - "$f" "$scratch/out.pyc" <<'CODE' || echo "$f: does not compile"
import py_compile, sys
try:
    py_compile.compile(sys.argv[1], cfile=sys.argv[2], doraise=True)
except py_compile.PyCompileError as e:
    sys.exit(str(e))
CODE
done >"$scratch/python" 2>&1
if [ -s "$scratch/python" ]; then
    cat "$scratch/python"
    failed=1
fi
exit $failed
