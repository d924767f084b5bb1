/* fuzz.h - what every target of tests/fuzz shares. A target is one function that takes any bytes,
 * hands them to one reader of the product, and checks what must hold of whatever comes out. It is
 * built twice: by clang with libFuzzer, which looks for inputs (make fuzz T=name), and by the
 * project's own compiler with replay.c, which runs the kept inputs as a test.
 *
 * A target ends the process (fuzz_require) when a property fails; it prints nothing otherwise, keeps
 * nothing between calls (fuzz_request, a whole server, keeps its store), and touches no file but in
 * memory.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's name for a target; always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Alive in every build, NDEBUG or not. */
#define fuzz_require(x)                                                                            \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #x);                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A file in memory with these bytes, for readers that take a path: its path, valid until
 * fuzz_file_close. */
struct fuzz_file {
    int fd;
    char path[32];
};
void fuzz_file_open(struct fuzz_file *f, const void *bytes, size_t len);
void fuzz_file_close(struct fuzz_file *f);

/* The bytes in memory of exactly that size, so that a sanitizer sees the first byte read too far. */
void *fuzz_exact(const void *bytes, size_t len);

#endif
