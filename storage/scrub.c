/* scrub.c - see scrub.h. */
#include "storage/scrub.h"

#include <stdlib.h>

#include "storage/catalog.h"
#include "storage/snapshot.h"
#include "storage/verify_part.h"

/* The corpus of the lowest number from `from` on: a reference, or NULL. */
static struct corpus *next_corpus(struct store *s, uint32_t from)
{
    struct corpus **list, *found = NULL;
    size_t count = store_corpus_list(s, &list);

    for (size_t i = 0; i < count; i++)
        if (list[i]->id >= from && (!found || list[i]->id < found->id))
            found = list[i];
    for (size_t i = 0; i < count; i++)
        if (list[i] != found)
            corpus_release(list[i]);
    free(list);
    return found;
}

static const struct view_chunk *chunk_from(const struct view *v, uint64_t sequence)
{
    size_t at = snapshot_from(v, sequence);

    return at < v->chunk_count ? &v->chunks[at] : NULL;
}

int scrub_step(struct store *s, struct scrub *at, void (*finding)(void *arg, const char *line),
               void *arg, struct verify_report *out, bool *out_end, struct err *e)
{
    struct check k = {.s = s, .finding = finding, .arg = arg, .gentle = true, .e = e};
    struct corpus *c = next_corpus(s, at->corpus);
    const struct view_chunk *chunk;
    const struct view *v;
    int rc;

    *out_end = !c;
    *out = (struct verify_report){0};
    if (!c) {
        *at = (struct scrub){0};
        return 0;
    }
    if (c->id != at->corpus)
        *at = (struct scrub){.corpus = c->id};
    k.corpus = c;
    v = corpus_view(c);
    chunk = chunk_from(v, at->sequence);
    if (chunk) {
        rc = verify_chunk(&k, chunk);
        k.report.bytes += chunk->rows * corpus_row_bytes(c);
        at->sequence = chunk->last_sequence + 1;
    } else {
        rc = verify_annexes(&k, c);
        *at = (struct scrub){.corpus = c->id + 1};
    }
    *out = k.report;
    view_release(v);
    corpus_release(c);
    return rc;
}
