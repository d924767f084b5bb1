/* main.c - the program `ascribed`: settings, then everything in order of who needs whom, then the
 * loop; afterwards the same way back. Verbs other than `serve` are in offline.c. */
#include <stdio.h>
#include <string.h>

#include "index/flat.h"
#include "index/kern.h"
#include "server/audit.h"
#include "server/auth.h"
#include "server/bm25.h"
#include "server/codes.h"
#include "server/config.h"
#include "server/confine.h"
#include "server/cost.h"
#include "server/descriptors.h"
#include "server/encoder.h"
#include "server/encoder_child.h"
#include "server/join.h"
#include "server/json.h"
#include "server/limits.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/notify.h"
#include "server/offline.h"
#include "server/page.h"
#include "server/pool.h"
#include "server/route.h"
#include "server/runtime.h"
#include "server/scrubber.h"
#include "server/server.h"
#include "server/sift.h"
#include "server/sigbus.h"
#include "server/tasks.h"
#include "server/vitals.h"
#include "storage/base/keep.h"
#include "storage/base/mem.h"
#include "storage/base/spare.h"
#include "storage/store.h"

static void help(void)
{
    puts("ascribed " ASCRIBE_VERSION
         ": a vector-index database server for training-data attribution\n\n"
         "usage: ascribed [serve] --store DIR [--create] [SETTINGS]\n"
         "       ascribed VERB --store DIR ...     on a store that no server has open\n\n"
         "settings; each is also ASCRIBE_NAME in the environment (dashes become underscores) and\n"
         "a line NAME = VALUE of the --config file; a flag beats the environment, which beats\n"
         "the file. Defaults in parentheses. Sizes take K, M, G or T.");
    config_help(stdout);
    puts("  --help, --version      this text; the version\n\nverbs:");
    offline_help(stdout);
    puts("\nWhen it takes requests it prints `ready listen=ADDRESS` on standard error, once for\n"
         "each address; its log (logfmt) goes there too. The first start of a store writes an\n"
         "admin key to DIR/admin.key. SIGTERM or SIGINT: no new connections, what runs is\n"
         "finished (--drain-ms), exit; a second one exits at once.\n\n"
         "exit codes: 0 ended as asked; 1 wrong settings; 2 the store cannot be opened;\n"
         "3 cannot listen; 4 the drain was cut short; 5 the store failed while serving (a sync\n"
         "or write error; nothing is retried); 6 a file of the store was cut, or its disk failed,\n"
         "while it was being read (the next start names what is damaged)");
}

static int fail(int code, const struct err *e)
{
    fprintf(stderr, "ascribed: %s\n", e->text);
    return code;
}

static void prepare_process(const struct config *c)
{
    sigbus_watch(EXIT_MAP_FAILED);
    keep_begin();
    spare_hold(LIMIT_SPARE_BYTES);
    json_prepare();
    log_set_level(c->log_level);
}

static int open_store(const struct config *c, struct runtime *rt, struct err *e)
{
    struct store_options options = {
        .shard_bytes = c->shard_bytes, .chunk_bytes = c->chunk_bytes, .create = c->create,
        .coder = &codes_coder};

    if (store_open(c->store, &options, &rt->store, e))
        return (int)e->code;
    for (size_t i = 0; i < store_healed(rt->store); i++)
        log_note(LOG_WARN, "healed", "%s", store_healed_line(rt->store, i));
    rt->auth = auth_new();
    auth_set_rate(rt->auth, c->rate, c->rate_burst);
    return auth_start(rt->auth, rt->store, c->new_admin_key, e);
}

static void start_workers(const struct config *c, struct runtime *rt)
{
    struct err e = ERR_INIT;
    struct server *s;

    rt->flat = flat_new(c->memory);
    rt->sift = sift_new(LIMIT_FILTER_KEPT);
    rt->bm25 = bm25_new(rt->store);
    rt->vitals = vitals_new();
    s = server_new(rt);
    rt->pool = pool_new((unsigned)c->threads, (unsigned)c->read_queue, server_job_done, s);
    rt->cost = cost_new(c->memory);
    /* beside the first requests; the queue is empty yet, and a guess will do if not */
    pool_task(rt->pool, cost_measure, rt->cost, &e);
    rt->join = join_new(rt->pool, rt->metrics);
    rt->tasks = tasks_new(rt->pool, c->store);
    rt->scrubber = scrubber_new(rt->store, rt->metrics, c->scrub_mib_s);
    rt->encoder = encoder_new(rt);
}

static int listen_all(const struct config *c, struct runtime *rt, struct err *e)
{
    for (size_t i = 0; i < c->listen_count; i++)
        if (server_listen(rt->server, c->listen[i], e))
            return (int)e->code;
    for (size_t i = 0; i < c->listen_count; i++) {
        char line[256];
        snprintf(line, sizeof line, "ready listen=%s", server_address(rt->server, i));
        log_plain(line);
    }
    for (size_t i = 0; i < c->listen_count; i++)
        page_tell_link(server_address(rt->server, i), c->store);
    notify_send("READY=1");
    return 0;
}

/* The pool is gone: this thread is the only writer. */
static void save_used(struct runtime *rt)
{
    struct err e = ERR_INIT;

    if (rt->auth && rt->store && !store_has_failed(rt->store) &&
        auth_save_used(rt->auth, rt->store, &e))
        log_note(LOG_WARN, "keys", "when they were last used was not written down: %s", e.text);
}

/* Backwards; every part copes with not having been made. True when a write to the store has failed,
 * be it the last. */
static bool close_all(struct runtime *rt)
{
    bool failed = false;

    scrubber_free(rt->scrubber);
    if (rt->tasks)
        tasks_stop(rt->tasks);
    pool_free(rt->pool);
    join_free(rt->join);
    cost_free(rt->cost);
    if (rt->tasks)
        tasks_free(rt->tasks);
    server_free(rt->server);
    encoder_free(rt->encoder);
    if (rt->flat)
        flat_free(rt->flat);
    sift_free(rt->sift);
    bm25_free(rt->bm25);
    vitals_free(rt->vitals);
    audit_free(rt->audit);
    metrics_free(rt->metrics);
    save_used(rt);
    auth_free(rt->auth);
    if (rt->store) {
        failed = store_has_failed(rt->store);
        store_close(rt->store);
    }
    return failed;
}

static int check_addresses(const struct config *c, struct err *e)
{
    struct listen_address a;

    for (size_t i = 0; i < c->listen_count; i++)
        if (listen_resolve(c->listen[i], c->behind_tls_proxy, &a, e))
            return (int)e->code;
    return 0;
}

static int open_audit(const struct config *c, struct runtime *rt, struct err *e)
{
    rt->metrics = metrics_new(route_table, route_count);
    rt->audit = audit_new(c->audit, rt->metrics, e);
    if (!rt->audit)
        metrics_free(rt->metrics);
    return rt->audit ? 0 : (int)e->code;
}

static int serve(struct config *c)
{
    struct runtime rt = {.config = c};
    struct err e = ERR_INIT;
    int code;

    if (check_addresses(c, &e) || open_audit(c, &rt, &e))
        return fail(EXIT_USAGE, &e);
    prepare_process(c);
    kern_init(NULL);
    if (open_store(c, &rt, &e)) {
        code = fail(EXIT_STORE, &e);
    } else if (descriptors_fit(c->connections, &c->connections, &e)) {
        code = fail(EXIT_USAGE, &e);
    } else {
        confine_process(c);
        start_workers(c, &rt);
        log_note(LOG_INFO, "starting", "ascribed %s, store %s, %u readers, simd %s",
                 ASCRIBE_VERSION, c->store, pool_readers(rt.pool), kern_level());
        audit_server(rt.audit, "start", c->new_admin_key ? "admin key made anew" : "as it was");
        if (listen_all(c, &rt, &e))
            code = fail(EXIT_LISTEN, &e);
        else
            code = server_run(rt.server);
        audit_server(rt.audit, "stop", code ? "failed" : "as asked");
    }
    if (close_all(&rt) && (code == EXIT_DONE || code == EXIT_KILLED))
        code = EXIT_STORE_FAILED;
    log_note(LOG_INFO, "stopped", "exit code %d", code);
    return code;
}

int main(int argc, char **argv)
{
    struct config c;
    struct err e = ERR_INIT;
    enum config_result what;
    int code = EXIT_DONE;

    if (argc > 1 && strcmp(argv[1], ENCODER_CHILD_WORD) == 0)
        return encoder_child_main(argc, argv);
    if (argc > 1 && offline_is_verb(argv[1]))
        return offline_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "serve") == 0) {
        argv++;
        argc--;
    }
    if (config_load(&c, argc, argv, &what, &e))
        code = fail(EXIT_USAGE, &e);
    else if (what == CONFIG_HELP)
        help();
    else if (what == CONFIG_VERSION)
        puts("ascribed " ASCRIBE_VERSION);
    else
        code = serve(&c);
    config_free(&c);
    return code;
}
