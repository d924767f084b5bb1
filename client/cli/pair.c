/* pair.c - one record a query; scores are written with the digits that read back bit for bit. */
#include "client/cli/pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool pair_open(struct pair_file *p, const char *path, char *why, size_t why_cap)
{
    size_t len = strlen(path);

    *p = (struct pair_file){.path = strdup(path), .part = malloc(len + 6)};
    if (!p->path || !p->part) {
        snprintf(why, why_cap, "no memory");
        pair_close(p, false);
        return false;
    }
    memcpy(p->part, path, len);
    memcpy(p->part + len, ".part", 6);
    p->f = fopen(p->part, "we");
    if (!p->f) {
        snprintf(why, why_cap, "%s: %s", p->part, strerror(errno));
        pair_close(p, false);
        return false;
    }
    return true;
}

/* name, name_ids and name_scores of one side. */
static int add_side(json_t *o, const char *plural, const char *singular,
                    const struct pair_hit *hits, size_t count)
{
    json_t *texts = json_array(), *ids = json_array(), *scores = json_array();
    char name[40];
    int rc = 0;

    for (size_t i = 0; i < count; i++) {
        const struct pair_hit *h = &hits[i];

        rc |= json_array_append_new(texts, json_stringn(h->text ? h->text : "", h->text_len));
        rc |= json_array_append_new(ids, json_string(h->id));
        rc |= json_array_append_new(scores, json_real(h->score));
    }
    rc |= json_object_set_new(o, plural, texts);
    snprintf(name, sizeof name, "%s_ids", singular);
    rc |= json_object_set_new(o, name, ids);
    snprintf(name, sizeof name, "%s_scores", singular);
    return rc | json_object_set_new(o, name, scores);
}

static int add_correct(json_t *o, const struct pair_list *list)
{
    json_t *correct = json_array();
    int rc = 0;

    for (size_t i = 0; i < list->proponent_count; i++)
        rc |= json_array_append_new(correct, json_boolean(list->correct[i]));
    return rc | json_object_set_new(o, "proponent_correct", correct);
}

/* Members of the query that are no others' names: relation, fact_id, a bucket, ... */
static int add_others(json_t *o, const json_t *query)
{
    static const char *const ours[] = {"id", "prompt", "target", "text"};
    int rc = 0;

    /* jansson's iterators want a mutable object only for their type */
    json_t *q = (json_t *)(uintptr_t)query;
    for (void *at = json_object_iter(q); at; at = json_object_iter_next(q, at)) {
        const char *name = json_object_iter_key(at);
        bool taken = json_object_get(o, name) != NULL;

        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
            taken = taken || strcmp(name, ours[i]) == 0;
        if (!taken)
            rc |= json_object_set(o, name, json_object_iter_value(at));
    }
    return rc;
}

bool pair_write(struct pair_file *p, const json_t *query, const char *query_set,
                const struct pair_list *list)
{
    json_t *prompt = json_object_get(query, "prompt"), *set = json_object_get(query, "query_set");
    json_t *o = json_object();
    char *text = NULL;
    bool good;
    int rc;

    rc = json_object_set(o, "example_id", json_object_get(query, "id"));
    rc |= json_is_string(set) ? json_object_set(o, "query_set", set)
                              : json_object_set_new(o, "query_set", json_string(query_set));
    rc |= json_object_set(o, "inputs_plaintext", prompt ? prompt : json_object_get(query, "text"));
    rc |= json_object_set(o, "targets_plaintext", json_object_get(query, "target"));
    rc |= add_side(o, "proponents", "proponent", list->proponents, list->proponent_count);
    rc |= add_correct(o, list);
    if (list->opponents)
        rc |= add_side(o, "opponents", "opponent", list->opponents, list->opponent_count);
    rc |= add_others(o, query);
    if (rc == 0)
        text = json_dumps(o, JSON_COMPACT);
    good = text && fputs(text, p->f) >= 0 && putc('\n', p->f) != EOF;
    free(text);
    json_decref(o);
    return good;
}

bool pair_close(struct pair_file *p, bool keep)
{
    bool good = true;

    if (p->f) {
        good = !keep || (fflush(p->f) == 0 && fsync(fileno(p->f)) == 0);
        good = fclose(p->f) == 0 && good;
        if (keep && good)
            good = rename(p->part, p->path) == 0;
        if (!keep || !good)
            unlink(p->part);
    }
    free(p->path);
    free(p->part);
    *p = (struct pair_file){0};
    return good;
}
