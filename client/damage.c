/* damage.c - what an answer left out because its stored bytes are damaged (docs/protocol.md,
 * "Damage"): read out of the answer, so that no program takes a part for the whole unawares. */
#include "client/inner.h"

#include <stdlib.h>

int asc__damage_fill(const json_t *answer, struct asc_damage *out, struct asc_error *e)
{
    const json_t *o = json_object_get(answer, "damaged"), *ids = json_object_get(o, "ids");
    size_t count = json_array_size(ids);

    *out = (struct asc_damage){.partial = json_is_true(json_object_get(answer, "partial")),
                               .examples = asc__json_u64(o, "examples"),
                               .chunks = asc__json_u64(o, "chunks")};
    if (count == 0)
        return 0;
    out->ids = calloc(count, sizeof *out->ids);
    if (!out->ids)
        return asc__no_memory(e, count * sizeof *out->ids);
    for (; out->id_count < count; out->id_count++) {
        out->ids[out->id_count] = asc__json_text(json_array_get(ids, out->id_count), NULL);
        if (!out->ids[out->id_count])
            return asc__json_missing(e, "damaged", "ids that are texts");
    }
    return 0;
}

void asc__damage_clear(struct asc_damage *d)
{
    for (size_t i = 0; i < d->id_count; i++)
        free(d->ids[i]);
    free(d->ids);
    *d = (struct asc_damage){0};
}
