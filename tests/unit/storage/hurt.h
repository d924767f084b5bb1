/* hurt.h - damage where a test wants it: one bit of a block, found by its header, or of a record. */
#ifndef TESTS_UNIT_STORAGE_HURT_H
#define TESTS_UNIT_STORAGE_HURT_H

#include <stdio.h>

#include "storage/chunk.h"
#include "tests/unit/storage/fixture.h"

struct file {
    char *path;
    unsigned char *bytes;
    size_t size;
};

MAYBE struct file file_read(const char *dir, const char *name)
{
    struct file f = {.path = fs_join(dir, name)};
    FILE *in = fopen(f.path, "rb");

    assert_non_null(in);
    fseek(in, 0, SEEK_END);
    f.size = (size_t)ftell(in);
    rewind(in);
    f.bytes = mem_new(f.size, 1);
    assert_int_equal(fread(f.bytes, 1, f.size, in), f.size);
    fclose(in);
    return f;
}

MAYBE void file_free(struct file *f)
{
    free(f->bytes);
    free(f->path);
}

MAYBE void file_flip(const struct file *f, size_t at)
{
    FILE *out = fopen(f->path, "r+b");

    assert_non_null(out);
    assert_true(at < f->size);
    fseek(out, (long)at, SEEK_SET);
    fputc(f->bytes[at] ^ 0x10, out);
    fclose(out);
}

/* Flips a bit of byte `at` (from the header's start) of that block of chunk `chunk`, in shard 1.
 * Small blocks lie in leaf pages, of which older versions are still there: all are hit. */
MAYBE void hurt_block(const char *store, uint64_t chunk, enum block_kind kind, size_t at)
{
    struct file f = file_read(store, "shards/000001/data.mdb");
    unsigned char head[6] = {'a', 's', 'c', 'b', 1, (unsigned char)kind};
    bool found = false;

    for (size_t i = 0; i + CHUNK_HEADER_BYTES < f.size; i++)
        if (memcmp(f.bytes + i, head, sizeof head) == 0 &&
            bytes_get_le64(f.bytes + i + 16) == chunk) {
            file_flip(&f, i + at);
            found = true;
        }
    assert_true(found);
    file_free(&f);
}

/* Flips a bit of the byte `at` behind every place in the ledger where `needle` stands: old versions
 * of a record lie in pages that are free, and do not mind. */
MAYBE unsigned hurt_record(const char *store, const void *needle, size_t len, size_t at)
{
    struct file f = file_read(store, "ledger/data.mdb");
    unsigned count = 0;

    for (size_t i = 0; i + len + at < f.size; i++)
        if (memcmp(f.bytes + i, needle, len) == 0) {
            file_flip(&f, i + at);
            count++;
        }
    assert_true(count > 0);
    file_free(&f);
    return count;
}

#endif
