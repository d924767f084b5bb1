#!/bin/sh
# headers.sh - every header compiles alone, twice over, as C11; client/ascribe.h also as C++ and as
# strict ANSI-minded C99, since it meets other people's compilers.
set -u
failed=0
flags="-std=gnu11 -D_GNU_SOURCE -I. -isystem /usr/share/include/llhttp -Wall -Wextra -Wstrict-prototypes
  -Wundef -Werror -fsyntax-only"
# what COMPILER-ARGS... : compiles "include it twice" from stdin.
twice() {
    header=$1
    shift
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" | "$@" - || {
        echo "$header: does not stand alone"
        failed=1
    }
}
for h in storage/base/*.h storage/*.h index/*.h server/*.h client/*.h client/cli/*.h client/lm/*.h; do
    [ -f "$h" ] || continue
    # shellcheck disable=SC2086 # a list of flags on purpose
    twice "$h" gcc $flags -x c
    guard=$(echo "$h" | tr 'a-z/.' 'A-Z__')
    [ "$h" = client/ascribe.h ] && guard=ASCRIBE_H # installed without its folder
    grep -q "^#ifndef $guard\$" "$h" || {
        echo "$h: its guard is not $guard"
        failed=1
    }
done
if [ -f client/ascribe.h ]; then
    twice client/ascribe.h g++ -std=c++11 -I. -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++
    twice client/ascribe.h gcc -std=c99 -I. -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c
fi
exit $failed
