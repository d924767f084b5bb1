/* look.c - see look.h. */
#include "tests/fault/look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/annex.h"
#include "storage/artifact.h"
#include "storage/base/mem.h"
#include "storage/commit.h"
#include "storage/fs.h"
#include "storage/maintain.h"
#include "tests/fault/content.h"
#include "tests/fault/trace.h"

struct look {
    char *why;
    size_t size;
    size_t errors; /* that were met, when damage is expected */
    bool damaged;  /* it is */
    bool wrong;
};

#define wrong(l, ...)                                                                              \
    do {                                                                                           \
        if (!(l)->wrong)                                                                           \
            snprintf((l)->why, (l)->size, __VA_ARGS__);                                            \
        (l)->wrong = true;                                                                         \
    } while (0)

/* An error is what damage may lead to, and nothing else may. */
static void met(struct look *l, const struct err *e, const char *where)
{
    l->errors++;
    if (!l->damaged)
        wrong(l, "%s: %s: %s", where, err_word(e->code), e->text);
    else if (e->text[0] == '\0')
        wrong(l, "%s: an error without a word", where);
}

/* The number of an example by its id; false, and wrong, when nobody ever made it. */
static bool number_of(struct look *l, const char *id, size_t len, uint32_t *out)
{
    char text[CONTENT_NAME];

    if (len < sizeof text && len > 3) {
        memcpy(text, id, len);
        text[len] = '\0';
        *out = (uint32_t)strtoul(text + 3, NULL, 10);
        if (*out < TRACE_EXAMPLES && content_id(*out, text) == len && memcmp(text, id, len) == 0)
            return true;
    }
    wrong(l, "an id that nobody made: %.*s", (int)len, id);
    return false;
}

static void look_at_example(struct look *l, const struct example *x, uint32_t epoch,
                            unsigned char *seen)
{
    char text[CONTENT_TEXT];
    uint32_t n;

    if (!number_of(l, x->id, x->id_len, &n))
        return;
    if (seen[n]++)
        wrong(l, "example %u is there twice", n);
    if (x->norm != content_norm(n, epoch))
        wrong(l, "example %u: norm %g, not %g", n, x->norm, content_norm(n, epoch));
    if ((x->text != NULL) != content_has_text(n) ||
        (x->text && (x->text_len != content_text(n, text) ||
                     memcmp(x->text, text, x->text_len) != 0)))
        wrong(l, "example %u: another text", n);
    if (!x->meta || x->meta_len != content_meta(n, text) || memcmp(x->meta, text, x->meta_len) != 0)
        wrong(l, "example %u: another meta", n);
}

static void look_at_texts(struct look *l, const struct view *v, uint32_t epoch, unsigned char *seen)
{
    for (size_t i = 0; i < v->chunk_count; i++)
        for (uint32_t r = 0; r < v->chunks[i].rows; r++) {
            struct err e = ERR_INIT;
            struct arena a = {0};
            struct example x;

            if (view_row_dead(&v->chunks[i], r))
                continue;
            if (view_example(v, i, r, &a, &x, &e))
                met(l, &e, "read an example");
            else
                look_at_example(l, &x, epoch, seen);
            arena_free(&a);
        }
}

/* Encodings row by row, against the ids that stand beside them; codes against both. */
static void look_at_chunk(struct look *l, const struct view_chunk *k, uint32_t epoch)
{
    static const enum block_kind planes[] = {BLOCK_BITS, BLOCK_SIX, BLOCK_LOW, BLOCK_FACTORS};
    struct block rows, x, b;
    struct err e = ERR_INIT;

    for (size_t p = 0; k->coded && p < sizeof planes / sizeof *planes; p++) {
        if (block_open(k, planes[p], &b, &e))
            met(l, &e, "read codes");
        else
            block_close(&b);
        err_clear(&e);
    }
    if (block_open(k, BLOCK_ROWS, &rows, &e)) {
        met(l, &e, "read rows");
        return;
    }
    if (block_open_rows(k, &x, &e)) {
        met(l, &e, "read encodings");
        block_close(&rows);
        return;
    }
    for (uint32_t r = 0; r < k->rows; r++) {
        unsigned char want[CONTENT_ROW];
        const unsigned char *got;
        const char *id;
        size_t len;
        uint32_t n;

        id = block_row_id(&rows, r, &len);
        if (!number_of(l, id, len, &n))
            break;
        content_encoding(n, epoch, want);
        err_clear(&e);
        if (block_row(k, &x, r, &got, &e))
            met(l, &e, "read a row");
        else if (memcmp(got, want, CONTENT_ROW) != 0)
            wrong(l, "example %u: another encoding in chunk %llu", n, (unsigned long long)k->id);
    }
    block_close(&x);
    block_close(&rows);
}

static void look_at_ids(struct look *l, struct corpus *c, struct trace_corpus *out,
                        const unsigned char *seen)
{
    for (uint32_t n = 0; n < TRACE_EXAMPLES; n++) {
        struct err e = ERR_INIT;
        char name[CONTENT_NAME];
        uint64_t sequence;
        int rc = corpus_find_id(c, name, content_id(n, name), &sequence, &e);

        if (rc && rc != ERR_UNKNOWN_EXAMPLE)
            met(l, &e, "find an id");
        else if (!l->damaged && (rc == 0) != (seen[n] != 0))
            wrong(l, "example %u: %s by its id, %s among the rows", n, rc ? "absent" : "present",
                  seen[n] ? "present" : "absent");
        if (seen[n])
            out->next = n + 1;
    }
    for (uint32_t n = 0; n < out->next; n++)
        out->dead[n] = !seen[n];
}

static void look_at_tasks(struct look *l, struct corpus *c, struct trace_corpus *out)
{
    for (uint32_t i = 0; i < TRACE_TASKS; i++) {
        struct err e = ERR_INIT;
        char name[CONTENT_NAME], text[CONTENT_NAME];
        const unsigned char *bytes;
        struct annex *a;
        size_t len;

        snprintf(name, sizeof name, "t%u", i);
        a = annex_find(c, name);
        if (!a)
            continue;
        out->tasks[i] = (uint32_t)strtoul(annex_def(a)->text + strlen("{\"step\":"), NULL, 10);
        snprintf(text, sizeof text, "{\"step\":%u}", out->tasks[i]);
        if (strcmp(text, annex_def(a)->text) != 0)
            wrong(l, "task %s: another text", name);
        if (annex_def(a)->artifact_count != 1)
            wrong(l, "task %s: no artifact", name);
        else if (artifact_map(annex_def(a)->artifacts[0], &bytes, &len, &e))
            met(l, &e, "map an artifact");
        else
            for (size_t k = 0; k < CONTENT_ARTIFACT; k++)
                if (len != CONTENT_ARTIFACT || bytes[k] != content_byte(out->tasks[i], k))
                    wrong(l, "task %s: another artifact", name);
        annex_release(a);
    }
}

static void look_at_corpus(struct look *l, struct store *s, const char *name,
                           struct trace_corpus *out)
{
    struct corpus *c = store_corpus_find(s, name);
    unsigned char seen[TRACE_EXAMPLES] = {0};
    struct corpus_stats st;
    const struct view *v;
    uint64_t live = 0;

    *out = (struct trace_corpus){.exists = c != NULL};
    if (!c)
        return;
    v = corpus_view(c);
    out->epoch = (uint32_t)view_epoch(v);
    look_at_texts(l, v, out->epoch, seen);
    for (size_t i = 0; i < v->chunk_count; i++)
        look_at_chunk(l, &v->chunks[i], out->epoch);
    look_at_ids(l, c, out, seen);
    look_at_tasks(l, c, out);
    corpus_stats(c, &st);
    for (uint32_t n = 0; n < TRACE_EXAMPLES; n++)
        live += seen[n] != 0;
    if (!l->damaged && (st.examples != live || v->live != live))
        wrong(l, "%s: counts %llu, view %llu, rows %llu", name, (unsigned long long)st.examples,
              (unsigned long long)v->live, (unsigned long long)live);
    view_release(v);
    corpus_release(c);
}

static void look_at_store(struct look *l, struct store *s, struct trace_store *out)
{
    struct buf value = {0};
    struct err e = ERR_INIT;
    int rc = store_record_get(s, STORE_KEYS, "k", 1, &value, &e);

    memset(out, 0, sizeof *out);
    out->exists = true;
    if (rc == 0 && value.len == sizeof out->record)
        memcpy(&out->record, value.data, sizeof out->record);
    else if (rc != ERR_UNKNOWN_KEY)
        met(l, &e, "read a record");
    buf_free(&value);
    look_at_corpus(l, s, "c", &out->c);
    look_at_corpus(l, s, "other", &out->other);
}

static void look_at_soundness(struct look *l, struct store *s)
{
    struct verify_report r = {0};
    struct err e = ERR_INIT;

    if (verify_store(s, NULL, NULL, NULL, &r, &e))
        wrong(l, "verify: %s", e.text);
    else if (r.damaged_blocks + r.damaged_ids + r.ledger_faults)
        wrong(l, "verify finds %llu blocks, %llu ids, %llu records damaged",
              (unsigned long long)r.damaged_blocks, (unsigned long long)r.damaged_ids,
              (unsigned long long)r.ledger_faults);
}

/* ---- Against the model ----------------------------------------------------------------------- */

static bool same(const struct trace_store *a, const struct trace_store *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void tell_difference(struct look *l, const char *what, const struct trace_store *got,
                            const struct trace_store *a, size_t acked)
{
    wrong(l,
          "%s is neither as before nor as after step %zu (%s): c %d next %u epoch %u tasks %u %u, "
          "other %d next %u, record %u; before: c %d next %u epoch %u tasks %u %u, "
          "other %d next %u, record %u",
          what, acked, trace_name(acked), got->c.exists, got->c.next, got->c.epoch, got->c.tasks[0],
          got->c.tasks[1], got->other.exists, got->other.next, got->record, a->c.exists, a->c.next,
          a->c.epoch, a->c.tasks[0], a->c.tasks[1], a->other.exists, a->other.next, a->record);
}

/* The store goes on from there: one more batch and one takedown, closed, opened, verified. */
static void go_on(struct look *l, const char *dir, struct store **s, uint32_t next)
{
    struct corpus *c = store_corpus_find(*s, "c");
    struct err e = ERR_INIT;
    char name[CONTENT_NAME];
    int rc;

    if (!c)
        return;
    rc = trace_ingest(*s, c, next, 5, &e);
    if (rc == 0)
        rc = commit_delete(c, name, content_id(next + 1, name), &e);
    if (rc)
        wrong(l, "the store does not go on: %s", e.text);
    corpus_release(c);
    store_close(*s);
    *s = NULL;
    if (rc == 0 && store_open(dir, &trace_options, s, &e))
        wrong(l, "the store does not open again: %s", e.text);
    else if (rc == 0)
        look_at_soundness(l, *s);
}

static void look_at_dir(struct look *l, const char *dir, bool create, bool write,
                        struct trace_store *out)
{
    struct store_options o = trace_options;
    struct err e = ERR_INIT;
    struct store *s = NULL;

    memset(out, 0, sizeof *out);
    o.create = create;
    o.read_only = !write;
    if (store_open(dir, &o, &s, &e)) {
        wrong(l, "%s does not open: %s", dir, e.text);
        return;
    }
    look_at_store(l, s, out);
    look_at_soundness(l, s);
    if (write && !l->wrong)
        go_on(l, dir, &s, out->c.next);
    store_close(s);
}

/* A copy is absent before its step was acknowledged, or whole. */
static void look_at_copy(struct look *l, const char *root, const char *name,
                         const struct trace_store *before, const struct trace_store *after)
{
    char *dir = fs_join(root, name);
    struct trace_store got = {0};

    if (fs_exists(dir))
        look_at_dir(l, dir, false, false, &got);
    if (!l->wrong && !same(&got, before) && !same(&got, after))
        wrong(l, "the %s is %s", name, got.exists ? "another" : "gone");
    free(dir);
}

bool look_check(const char *root, size_t acked, char *why, size_t size)
{
    struct look l = {.why = why, .size = size};
    char *dir = fs_join(root, "store");
    struct trace_model before, after;
    struct trace_store got;

    trace_model(acked, &before);
    trace_model(acked + 1, &after);
    look_at_dir(&l, dir, !before.store.exists, true, &got);
    before.store.exists = after.store.exists = true; /* made just now, if it was not there */
    if (!l.wrong && !same(&got, &before.store) && !same(&got, &after.store))
        tell_difference(&l, "the store", &got, &before.store, acked);
    if (!l.wrong)
        look_at_copy(&l, root, "backup", &before.backup, &after.backup);
    if (!l.wrong)
        look_at_copy(&l, root, "restored", &before.restored, &after.restored);
    free(dir);
    return !l.wrong;
}

/* ---- Damage ---------------------------------------------------------------------------------- */

bool look_damaged(const char *root, size_t *out_errors, size_t *out_silent, char *why, size_t size)
{
    struct look l = {.why = why, .size = size, .damaged = true};
    char *dir = fs_join(root, "store");
    struct trace_store got = {0};
    struct trace_model m;
    struct err e = ERR_INIT;
    struct store *s = NULL;
    size_t silent = 0;

    trace_model(trace_steps(), &m);
    if (store_open(dir, &trace_options, &s, &e)) {
        met(&l, &e, "open");
    } else {
        look_at_store(&l, s, &got);
        for (uint32_t n = 0; n < TRACE_EXAMPLES; n++) {
            bool want = n < m.store.c.next && !m.store.c.dead[n];
            bool have = n < got.c.next && !got.c.dead[n];

            if (have && !want)
                wrong(&l, "example %u was taken down and is back", n);
            silent += want && !have;
        }
        silent += got.other.exists || got.c.epoch != m.store.c.epoch ||
                  got.record != m.store.record ||
                  memcmp(got.c.tasks, m.store.c.tasks, sizeof got.c.tasks) != 0;
        store_close(s);
    }
    free(dir);
    *out_errors = l.errors;
    *out_silent = l.errors ? 0 : silent;
    return !l.wrong;
}

static void first_finding(void *arg, const char *line)
{
    char *why = arg;

    if (why[0] == '\0')
        snprintf(why, 256, "%s", line);
}

size_t look_verify(const char *root, char *why, size_t size)
{
    struct store_options o = trace_options;
    struct verify_report r = {0};
    char *dir = fs_join(root, "store"), first[256] = "";
    struct err e = ERR_INIT;
    struct store *s = NULL;
    size_t found = SIZE_MAX;

    o.create = false;
    o.read_only = true;
    if (store_open(dir, &o, &s, &e) || verify_store(s, first_finding, first, NULL, &r, &e))
        snprintf(why, size, "%s", e.text);
    else
        found = (size_t)(r.damaged_blocks + r.damaged_ids + r.ledger_faults);
    if (found != SIZE_MAX && found > 0)
        snprintf(why, size, "%s", first);
    store_close(s);
    free(dir);
    return found;
}
