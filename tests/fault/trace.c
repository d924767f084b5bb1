/* trace.c - see trace.h: the steps, what there is after each, and how they are taken. */
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
#include "tests/fault/content.h"

const struct store_options trace_options = {
    .create = true, .shard_bytes = 96 << 10, .chunk_bytes = 4 << 10, .coder = &content_coder};

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
    struct corpus_def def = {
        .dim = CONTENT_DIM, .dtype = DTYPE_F32, .manifest = "{\"made\":\"up\"}"};
    bool created;

    snprintf(def.name, sizeof def.name, "%s", name);
    memset(def.fingerprint, 7, sizeof def.fingerprint);
    return store_corpus_create(s, &def, &created, out, e);
}

int trace_ingest(struct store *s, struct corpus *c, uint32_t first, uint32_t count, struct err *e)
{
    const struct view *v = corpus_view(c);
    struct commit_batch b = {.corpus = c, .count = count, .epoch = view_epoch(v)};
    struct commit_batch *list[] = {&b};
    struct arena a = {0};
    unsigned char *encodings = arena_new(&a, count, CONTENT_ROW);
    struct commit_example *examples = arena_new(&a, count, sizeof *examples);
    double *norms = arena_new(&a, count, sizeof *norms);
    char text[CONTENT_TEXT], name[CONTENT_NAME];
    int rc;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = first + i;
        struct commit_example *x = &examples[i];

        content_encoding(n, (uint32_t)b.epoch, encodings + (size_t)i * CONTENT_ROW);
        norms[i] = content_norm(n, (uint32_t)b.epoch);
        x->id_len = (uint32_t)content_id(n, name);
        x->id = arena_copy(&a, name, x->id_len);
        if (content_has_text(n)) {
            x->text_len = (uint32_t)content_text(n, text);
            x->text = arena_copy(&a, text, x->text_len);
        }
        x->meta_len = (uint32_t)content_meta(n, text);
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
    unsigned char mask = content_turn(epoch) ^ content_turn(epoch + 1);

    (void)e;
    for (size_t i = 0; i < count * CONTENT_ROW; i++)
        ((unsigned char *)out)[i] = ((const unsigned char *)in)[i] ^ mask;
    for (size_t i = 0; i < count; i++)
        norms[i] *= 2;
    return 0;
}

static int make_artifact(struct store *s, uint32_t number, struct artifact **out, struct err *e)
{
    struct artifact_writer *w = NULL;
    unsigned char bytes[CONTENT_ARTIFACT];
    int rc = artifact_begin(s, &w, e);

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = content_byte(number, i);
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
    char name[CONTENT_NAME], text[CONTENT_NAME];
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
    rc = store_open(t->dir, &trace_options, &t->s, e);
    if (rc == 0)
        t->c = store_corpus_find(t->s, "c");
    return rc;
}

static int other(struct trace *t, uint32_t rows, struct err *e)
{
    struct corpus *c = NULL;
    int rc = make_corpus(t->s, "other", &c, e);

    if (rc == 0 && rows)
        rc = trace_ingest(t->s, c, 0, rows, e);
    if (c)
        corpus_release(c);
    return rc;
}

int trace_run(struct trace *t, size_t step, struct err *e)
{
    const struct step *s = &steps[step];
    uint32_t number = (uint32_t)step;
    struct trace_model before;
    char name[CONTENT_NAME];

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
        return trace_ingest(t->s, t->c, before.store.c.next, s->n, e);
    case DELETE:
        return commit_delete(t->c, name, content_id(s->n, name), e);
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
