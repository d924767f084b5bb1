/* encode_server.c - see encode_server.h. Each lane is a client of its own, so the threads' requests
 * are in flight side by side. */
#include "client/lm/encode_server.h"

#include <stdlib.h>

#include "client/ascribe.h"
#include "storage/base/mem.h"

struct lane {
    const struct encode_server_target *target;
    struct asc_client *client; /* owned */
};

/* libascribe's error as ours; the server's own words stand. */
static int failed(struct err *e, const struct encode_server_target *t, const struct asc_error *why)
{
    const enum err_code code = why->http_status == 409 ? ERR_CONFLICT : ERR_IO;

    return err_set(e, code, "%s: %s (%s)", t->url, why->detail, why->code);
}

static int connect_to(const struct encode_server_target *t, struct asc_client **out, struct err *e)
{
    const struct asc_options options = {.size = sizeof options, .key = t->key};
    struct asc_error why;

    return asc_open(t->url, &options, out, &why) ? failed(e, t, &why) : 0;
}

static int prepare(void *ctx, const struct buf *corpus, char (*names)[ENCODE_NAME_MAX],
                   size_t count, struct err *e)
{
    const struct encode_server_target *t = ctx;
    char *definition = mem_copy(corpus->data, corpus->len);
    struct asc_client *client = NULL;
    struct asc_error why;
    int rc = connect_to(t, &client, e);

    (void)names;
    (void)count;
    if (!rc && asc_corpus_create(client, t->corpus, definition, NULL, NULL, &why))
        rc = failed(e, t, &why);
    asc_close(client);
    free(definition);
    return rc;
}

static int open_lane(void *ctx, void **out_lane, struct err *e)
{
    struct lane *l = mem_new(1, sizeof *l);
    int rc;

    l->target = ctx;
    rc = connect_to(l->target, &l->client, e);
    if (rc) {
        free(l);
        return rc;
    }
    *out_lane = l;
    return 0;
}

static bool has(void *lane, const struct encode_batch *b)
{
    (void)lane;
    (void)b;
    return false; /* no route tells; sending again is safe */
}

static enum asc_dtype wire_type(enum dtype t)
{
    return t == DTYPE_F32 ? ASC_F32 : t == DTYPE_F16 ? ASC_F16 : ASC_BF16;
}

/* An answer means that the batch is durable: there is nothing left to settle. */
static int put(void *lane, const struct encode_batch *b, struct err *e)
{
    const struct lane *l = lane;
    const struct asc_batch batch = {.name = b->name,
                                    .rows = b->rows,
                                    .dim = b->dim,
                                    .dtype = wire_type(b->dtype),
                                    .gradients = b->gradients,
                                    .lines = b->lines,
                                    .lines_len = b->lines_len};
    struct asc_error why;

    return asc_ingest(l->client, l->target->corpus, &batch, NULL, &why) ? failed(e, l->target, &why)
                                                                        : 0;
}

static int settle(void *lane, struct err *e)
{
    (void)lane;
    (void)e;
    return 0;
}

static void close_lane(void *lane)
{
    struct lane *l = lane;

    if (l)
        asc_close(l->client);
    free(l);
}

struct encode_sink encode_server(struct encode_server_target *t)
{
    return (struct encode_sink){.ctx = t,
                                .prepare = prepare,
                                .open = open_lane,
                                .has = has,
                                .put = put,
                                .settle = settle,
                                .close = close_lane};
}
