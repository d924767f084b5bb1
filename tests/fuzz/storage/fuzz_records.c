/* fuzz_records.c - a record of the ledger as a damaged disk may hand it over: key (its length first,
 * one byte), then value. Every reader of a record gets it; each takes it or says no. */
#include "tests/fuzz/fuzz.h"

#include "storage/annex_record.h"
#include "storage/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t key_len = size ? data[0] : 0;
    struct corpus_def def;
    struct ledger_batch batch;
    struct ledger_chunk chunk;
    struct ledger_tombstone tombstone;
    struct ledger_shard shard;
    struct annex_file files[ANNEX_ARTIFACTS];
    struct span key, value, manifest;
    size_t count = 0;
    uint64_t number;
    void *k, *v;

    if (size == 0 || key_len > size - 1)
        return 0;
    k = fuzz_exact(data + 1, key_len);
    v = fuzz_exact(data + 1 + key_len, size - 1 - key_len);
    key = (struct span){.bytes = k, .len = key_len};
    value = (struct span){.bytes = v, .len = size - 1 - key_len};
    if (ledger_parse_corpus(value, &def, &manifest))
        fuzz_require(manifest.len <= value.len && strlen(def.name) <= STORE_NAME_MAX);
    ledger_parse_batch(value, &batch);
    if (ledger_parse_chunk(key, value, &chunk))
        fuzz_require(chunk.rows > 0 && chunk.first_sequence <= chunk.last_sequence);
    ledger_parse_tombstone(key, value, &tombstone);
    ledger_parse_shard(key, value, &shard);
    ledger_parse_u64(value, &number);
    if (annex_record_files(value, files, &count))
        fuzz_require(count <= ANNEX_ARTIFACTS);
    free(k);
    free(v);
    return 0;
}
