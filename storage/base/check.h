/* check.h - assertions. `require` stays in every build; `check` is for hot loops of debug builds.
 * Both are for mistakes in our own code, never for input: bad input is a struct err. */
#ifndef STORAGE_BASE_CHECK_H
#define STORAGE_BASE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define require(x)                                                                                 \
    do {                                                                                           \
        if (__builtin_expect(!(x), 0)) {                                                           \
            fprintf(stderr, "%s:%d: %s: require(%s) failed\n", __FILE__, __LINE__, __func__, #x);  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#ifdef ASCRIBE_DEBUG
#define check(x) require(x)
#else
#define check(x) ((void)0)
#endif

#endif
