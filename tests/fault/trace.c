/* trace.c - see trace.h. */
#include "tests/fault/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/annex.h"
#include "storage/artifact.h"
#include "storage/base/mem.h"
#include "storage/commit.h"
#include "storage/fs.h"
#include "storage/maintain.h"
#include "storage/store.h"

enum { DIM = 32, ROW = 4 * DIM, TEXT_MAX = 400, NAME_MAX_ = 32, ARTIFACT = 9000 };

/* ---- Content --------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static unsigned char byte_of(uint64_t seed, size_t at)
{
    return (unsigned char)(mix(seed + at / 8) >> (at % 8 * 8));
}

/* Fits turn every byte, and double every norm: the content of an epoch follows from its number. */
static unsigned char turn_of(uint32_t epoch)
{
    return (unsigned char)(0x35 * epoch);
}

static void encoding_of(uint32_t n, uint32_t epoch, unsigned char out[ROW])
{
    for (size_t i = 0; i < ROW; i++)
        out[i] = byte_of(n * 1315423911ull, i) ^ turn_of(epoch);
}

static double norm_of(uint32_t n, uint32_t epoch)
{
    return ((double)(mix(n) % 100000) / 7.0 + 0.25) * (double)(1u << epoch);
}

static size_t id_of(uint32_t n, char out[NAME_MAX_])
{
    return (size_t)snprintf(out, NAME_MAX_, "ex-%u", n);
}

static bool has_text(uint32_t n)
{
    return n % 7 != 3;
}

static size_t text_of(uint32_t n, char out[TEXT_MAX])
{
    size_t len = mix(n ^ 1) % 300, at = 0;

    while (at < len)
        at += (size_t)snprintf(out + at, TEXT_MAX - at, "word%u ", (unsigned)(mix(n + at) % 97));
    out[len] = '\0';
    return len;
}

static size_t meta_of(uint32_t n, char out[TEXT_MAX])
{
    return (size_t)snprintf(out, TEXT_MAX, "{\"source\":\"s%u\"}", n % 9);
}

/* Codes of a row: its bytes, mixed. */
static void code_shape(void *arg, uint32_t dim, enum dtype dtype, struct coder_shape *out)
{
    (void)arg;
    (void)dim;
    (void)dtype;
    *out = (struct coder_shape){1, {DIM / 8, DIM / 2, DIM / 4}, 2};
}

static int code_rows(void *arg, uint32_t dim, enum dtype dtype, const void *const *rows,
                     uint32_t first, uint32_t count, const struct codes *out, struct err *e)
{
    (void)arg;
    (void)dim;
    (void)dtype;
    (void)e;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t sum = 7;

        for (size_t b = 0; b < ROW; b++)
            sum = mix(sum ^ ((const unsigned char *)rows[i])[b]);
        for (unsigned p = 0; p < CODER_PLANES; p++)
            for (size_t at = 0; at < out->shape.plane_bytes[p]; at++)
                out->plane[p][(first + i) * out->shape.plane_bytes[p] + at] = byte_of(sum + p, at);
        for (uint32_t f = 0; f < 2; f++)
            out->factors[f * out->count + first + i] = (float)(sum >> 40) + (float)f;
    }
    return 0;
}

static const struct store_coder coder = {NULL, code_shape, code_rows};
static const struct store_options options = {
    .create = true, .shard_bytes = 96 << 10, .chunk_bytes = 4 << 10, .coder = &coder};

/* ---- Steps and the model --------------------------------------------------------------------- */

enum op { CREATE, CORPUS, OTHER, INGEST, INGEST_OTHER, DELETE, RECORD, COMPACT, FIT, TASK, UNTASK,
          BACKUP, RESTORE, DROP, REOPEN };
static const char *const op_names[] = {"create", "corpus", "other corpus", "ingest", "ingest other",
                                       "delete", "record", "compact", "fit", "task", "delete task",
                                       "backup", "restore", "drop", "reopen"};

static const struct step {
    enum op op;
    uint32_t n; /* rows of a batch; the example that goes; which task */
} steps[] = {
    {CREATE, 0},  {CORPUS, 0},  {OTHER, 0},   {INGEST_OTHER, 10}, {RECORD, 0},  {INGEST, 24},
    {INGEST, 30}, {DELETE, 7},  {INGEST, 24}, {DELETE, 30},       {INGEST, 40}, {COMPACT, 0},
    {INGEST, 24}, {DELETE, 50}, {FIT, 0},     {INGEST, 24},       {TASK, 0},    {INGEST, 9},
    {BACKUP, 0},  {DROP, 0},    {INGEST, 24}, {TASK, 1},          {TASK, 0},    {FIT, 0},
    {DELETE, 90}, {COMPACT, 0}, {REOPEN, 0},  {RESTORE, 0},       {INGEST, 50}, {RECORD, 0},
    {UNTASK, 1},  {DELETE, 1},  {INGEST, 24},
};

size_t trace_steps(void)
{
    return sizeof steps / sizeof *steps;
}

const char *trace_name(size_t step)
{
    return step < trace_steps() ? op_names[steps[step].op] : "the end";
}

bool trace_is_copy(size_t step)
{
    return step < trace_steps() && (steps[step].op == BACKUP || steps[step].op == RESTORE);
}

static void apply(struct trace_model *m, size_t step)
{
    const struct step *s = &steps[step];
    struct trace_store *t = &m->store;

    switch (s->op) {
    case CREATE:
        t->exists = true;
        break;
    case CORPUS:
        t->c.exists = true;
        break;
    case OTHER:
        t->other.exists = true;
        break;
    case INGEST:
        t->c.next += s->n;
        break;
    case INGEST_OTHER:
        t->other.next += s->n;
        break;
    case DELETE:
        t->c.dead[s->n] = 1;
        break;
    case RECORD:
        t->record = (uint32_t)step;
        break;
    case FIT:
        t->c.epoch++;
        break;
    case TASK:
        t->c.tasks[s->n] = (uint32_t)step;
        break;
    case UNTASK:
        t->c.tasks[s->n] = 0;
        break;
    case BACKUP:
        m->backup = *t;
        break;
    case RESTORE:
        m->restored = m->backup;
        break;
    case DROP:
        t->other = (struct trace_corpus){0};
        break;
    case COMPACT:
    case REOPEN:
        break;
    }
}

void trace_model(size_t count, struct trace_model *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count && i < trace_steps(); i++)
        apply(out, i);
}

/* ---- Running --------------------------------------------------------------------------------- */

struct trace {
    char *root, *dir, *backup, *restored;
    struct store *s;
    struct corpus *c;
};

struct trace *trace_begin(const char *root)
{
    struct trace *t = mem_new(1, sizeof *t);

    t->root = mem_copy(root, strlen(root));
    t->dir = fs_join(root, "store");
    t->backup = fs_join(root, "backup");
    t->restored = fs_join(root, "restored");
    return t;
}

static void leave(struct trace *t)
{
    if (t->c)
        corpus_release(t->c);
    store_close(t->s);
    t->c = NULL;
    t->s = NULL;
}

void trace_end(struct trace *t)
{
    leave(t);
    free(t->root);
    free(t->dir);
    free(t->backup);
    free(t->restored);
    free(t);
}

bool trace_latched(const struct trace *t)
{
    return t->s && store_has_failed(t->s);
}

void trace_remove_copy(struct trace *t, size_t step)
{
    const char *path = steps[step].op == BACKUP ? t->backup : t->restored;
    char part[256];
    struct err e = ERR_INIT;

    snprintf(part, sizeof part, "%s.part", path);
    (void)fs_remove_tree(path, 3, &e);
    (void)fs_remove_tree(part, 3, &e);
}

static int make_corpus(struct store *s, const char *name, struct corpus **out, struct err *e)
{
    struct corpus_def def = {.dim = DIM, .dtype = DTYPE_F32, .manifest = "{\"made\":\"up\"}"};
    bool created;

    snprintf(def.name, sizeof def.name, "%s", name);
    memset(def.fingerprint, 7, sizeof def.fingerprint);
    return store_corpus_create(s, &def, &created, out, e);
}

static int ingest(struct store *s, struct corpus *c, uint32_t first, uint32_t count, struct err *e)
{
    const struct view *v = corpus_view(c);
    struct commit_batch b = {.corpus = c, .count = count, .epoch = view_epoch(v)};
    struct commit_batch *list[] = {&b};
    struct arena a = {0};
    unsigned char *encodings = arena_new(&a, count, ROW);
    struct commit_example *examples = arena_new(&a, count, sizeof *examples);
    double *norms = arena_new(&a, count, sizeof *norms);
    char text[TEXT_MAX], name[NAME_MAX_];
    int rc;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = first + i;
        struct commit_example *x = &examples[i];

        encoding_of(n, (uint32_t)b.epoch, encodings + (size_t)i * ROW);
        norms[i] = norm_of(n, (uint32_t)b.epoch);
        x->id_len = (uint32_t)id_of(n, name);
        x->id = arena_copy(&a, name, x->id_len);
        if (has_text(n)) {
            x->text_len = (uint32_t)text_of(n, text);
            x->text = arena_copy(&a, text, x->text_len);
        }
        x->meta_len = (uint32_t)meta_of(n, text);
        x->meta = arena_copy(&a, text, x->meta_len);
    }
    view_release(v);
    snprintf(name, sizeof name, "b%u", first);
    b.name = name;
    b.encodings = encodings;
    b.norms = norms;
    b.examples = examples;
    memset(b.content_hash, (int)first & 255, sizeof b.content_hash);
    rc = commit_group(s, list, 1, e);
    if (rc == 0 && b.err.code) {
        *e = b.err;
        rc = (int)b.err.code;
    }
    arena_free(&a);
    return rc;
}

static int turn(void *arg, const void *in, double *norms, size_t count, void *out, struct err *e)
{
    uint32_t epoch = *(uint32_t *)arg;
    unsigned char mask = turn_of(epoch) ^ turn_of(epoch + 1);

    (void)e;
    for (size_t i = 0; i < count * ROW; i++)
        ((unsigned char *)out)[i] = ((const unsigned char *)in)[i] ^ mask;
    for (size_t i = 0; i < count; i++)
        norms[i] *= 2;
    return 0;
}

static int make_artifact(struct store *s, uint32_t number, struct artifact **out, struct err *e)
{
    struct artifact_writer *w = NULL;
    unsigned char bytes[ARTIFACT];
    int rc = artifact_begin(s, &w, e);

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = byte_of(number, i);
    if (rc == 0)
        rc = artifact_add(w, bytes, sizeof bytes, e);
    if (rc == 0)
        rc = artifact_finish(w, out, e);
    artifact_writer_end(w);
    return rc;
}

static int fit(struct trace *t, struct err *e)
{
    const struct view *v = corpus_view(t->c);
    uint32_t epoch = (uint32_t)view_epoch(v);
    struct rewrite_to to = {.rows = turn, .arg = &epoch, .text = "{\"turned\":1}"};
    int rc;

    view_release(v);
    rc = make_artifact(t->s, epoch + 1, &to.artifact, e);
    if (rc == 0)
        rc = rewrite_corpus(t->c, &to, NULL, NULL, e);
    artifact_release(to.artifact);
    return rc;
}

static int put_task(struct trace *t, uint32_t which, uint32_t number, struct err *e)
{
    char name[NAME_MAX_], text[NAME_MAX_];
    const struct view *v = corpus_view(t->c);
    struct annex_def def = {.name = name, .text = text,
                            .epoch = view_epoch(v), .artifact_count = 1};
    struct annex *old;
    int rc;

    view_release(v);
    snprintf(name, sizeof name, "t%u", which);
    snprintf(text, sizeof text, "{\"step\":%u}", number);
    rc = make_artifact(t->s, number, &def.artifacts[0], e);
    old = annex_find(t->c, name);
    if (rc == 0)
        rc = annex_put(t->c, &def, old, e);
    annex_release(old);
    artifact_release(def.artifacts[0]);
    return rc;
}

static int reopen(struct trace *t, struct err *e)
{
    int rc = 0;

    leave(t);
    rc = store_open(t->dir, &options, &t->s, e);
    if (rc == 0)
        t->c = store_corpus_find(t->s, "c");
    return rc;
}

static int other(struct trace *t, uint32_t rows, struct err *e)
{
    struct corpus *c = NULL;
    int rc = make_corpus(t->s, "other", &c, e);

    if (rc == 0 && rows)
        rc = ingest(t->s, c, 0, rows, e);
    if (c)
        corpus_release(c);
    return rc;
}

int trace_run(struct trace *t, size_t step, struct err *e)
{
    const struct step *s = &steps[step];
    uint32_t number = (uint32_t)step;
    struct trace_model before;
    char name[NAME_MAX_];

    trace_model(step, &before);
    if (!t->s && s->op != CREATE && s->op != REOPEN && reopen(t, e))
        return (int)e->code;
    switch (s->op) {
    case CREATE:
    case REOPEN:
        return reopen(t, e);
    case CORPUS:
        if (t->c)
            corpus_release(t->c);
        t->c = NULL;
        return make_corpus(t->s, "c", &t->c, e);
    case OTHER:
        return other(t, 0, e);
    case INGEST_OTHER:
        return other(t, s->n, e);
    case INGEST:
        return ingest(t->s, t->c, before.store.c.next, s->n, e);
    case DELETE:
        return commit_delete(t->c, name, id_of(s->n, name), e);
    case RECORD:
        return store_record_put(t->s, STORE_KEYS, "k", 1, &number, sizeof number, e);
    case COMPACT:
        return compact_corpus(t->c, NULL, NULL, e);
    case FIT:
        return fit(t, e);
    case TASK:
        return put_task(t, s->n, number, e);
    case UNTASK:
        snprintf(name, sizeof name, "t%u", s->n);
        return annex_delete(t->c, name, e);
    case BACKUP:
        return backup_store(t->s, t->backup, NULL, e);
    case RESTORE:
        return restore_store(t->backup, t->restored, NULL, e);
    case DROP:
        return store_corpus_drop(t->s, "other", e);
    }
    return 0;
}

/* ---- Looking --------------------------------------------------------------------------------- */

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
    char text[NAME_MAX_];

    if (len < sizeof text && len > 3) {
        memcpy(text, id, len);
        text[len] = '\0';
        *out = (uint32_t)strtoul(text + 3, NULL, 10);
        if (*out < TRACE_EXAMPLES && id_of(*out, text) == len && memcmp(text, id, len) == 0)
            return true;
    }
    wrong(l, "an id that nobody made: %.*s", (int)len, id);
    return false;
}

static void look_at_example(struct look *l, const struct example *x, uint32_t epoch,
                            unsigned char *seen)
{
    char text[TEXT_MAX];
    uint32_t n;

    if (!number_of(l, x->id, x->id_len, &n))
        return;
    if (seen[n]++)
        wrong(l, "example %u is there twice", n);
    if (x->norm != norm_of(n, epoch))
        wrong(l, "example %u: norm %g, not %g", n, x->norm, norm_of(n, epoch));
    if ((x->text != NULL) != has_text(n) ||
        (x->text && (x->text_len != text_of(n, text) || memcmp(x->text, text, x->text_len) != 0)))
        wrong(l, "example %u: another text", n);
    if (!x->meta || x->meta_len != meta_of(n, text) || memcmp(x->meta, text, x->meta_len) != 0)
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
        unsigned char want[ROW];
        const unsigned char *got;
        const char *id;
        size_t len;
        uint32_t n;

        id = block_row_id(&rows, r, &len);
        if (!number_of(l, id, len, &n))
            break;
        encoding_of(n, epoch, want);
        err_clear(&e);
        if (block_row(k, &x, r, &got, &e))
            met(l, &e, "read a row");
        else if (memcmp(got, want, ROW) != 0)
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
        char name[NAME_MAX_];
        uint64_t sequence;
        int rc = corpus_find_id(c, name, id_of(n, name), &sequence, &e);

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
        char name[NAME_MAX_], text[NAME_MAX_];
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
            for (size_t k = 0; k < ARTIFACT; k++)
                if (len != ARTIFACT || bytes[k] != byte_of(out->tasks[i], k))
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
    char name[NAME_MAX_];
    int rc;

    if (!c)
        return;
    rc = ingest(*s, c, next, 5, &e);
    if (rc == 0)
        rc = commit_delete(c, name, id_of(next + 1, name), &e);
    if (rc)
        wrong(l, "the store does not go on: %s", e.text);
    corpus_release(c);
    store_close(*s);
    *s = NULL;
    if (rc == 0 && store_open(dir, &options, s, &e))
        wrong(l, "the store does not open again: %s", e.text);
    else if (rc == 0)
        look_at_soundness(l, *s);
}

static void look_at_dir(struct look *l, const char *dir, bool create, bool write,
                        struct trace_store *out)
{
    struct store_options o = options;
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

bool trace_check(const char *root, size_t acked, char *why, size_t size)
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

bool trace_read_damaged(const char *root, size_t *out_errors, size_t *out_silent, char *why,
                        size_t size)
{
    struct look l = {.why = why, .size = size, .damaged = true};
    char *dir = fs_join(root, "store");
    struct trace_store got = {0};
    struct trace_model m;
    struct err e = ERR_INIT;
    struct store *s = NULL;
    size_t silent = 0;

    trace_model(trace_steps(), &m);
    if (store_open(dir, &options, &s, &e)) {
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

size_t trace_verify(const char *root, char *why, size_t size)
{
    struct store_options o = options;
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
