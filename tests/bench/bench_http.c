/* bench_http.c - N clients asking one server, from one thread, so that measuring costs the measured
 * machine as little as it can.
 *
 *   bench_http --address HOST:PORT --key-file FILE --path "/v1/corpora/c/query?k=10"
 *              --queries FILE --dim D [--clients N] [--requests M] [--batch B] [--answers FILE]
 *
 * FILE holds raw float32 rows. Each client is one kept-alive connection with one request in flight;
 * request r asks queries r*B .. r*B+B-1, modulo the file. Requests and answers are HTTP/1.1 with
 * Content-Length. Prints one line of JSON: latencies as the clients saw them, the server's own
 * took_ms, queries/s. --answers writes request number, tab, body, a line each. A status other than
 * 200 (503 included: the queue is bounded and the bench stays below it) ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/base/mem.h"
#include "tests/bench/rows.h"

enum { MOST_CLIENTS = 1024, HEAD = 2048, ANSWER_FIRST = 1 << 16, ANSWER_MOST = 1 << 28 };

struct options {
    const char *address, *key_file, *path, *queries, *answers;
    size_t dim, clients, requests, batch;
};

/* The same bytes for all clients but for the rows, which are sent from the mapped file. */
struct form {
    char *head; /* HTTP head and safetensors header */
    size_t head_len, row_bytes;
    const struct rows *queries;
};

struct client {
    int fd;
    size_t request; /* its number */
    size_t sent;    /* of head and rows */
    char *in;
    size_t in_len, in_room, need; /* need: of the whole reply, 0 while the head is not there */
    double began;
};

struct bench {
    struct options o;
    struct form form;
    int poll;
    size_t next, done;
    double *seen, *took; /* requests each, milliseconds */
    FILE *answers;
};

/* --- the request ------------------------------------------------------------------------------ */

static char *key_read(const char *path)
{
    static char key[256];
    FILE *f = fopen(path, "r");

    if (!f || !fgets(key, sizeof key, f))
        die("cannot read a key from %s", path);
    fclose(f);
    key[strcspn(key, "\r\n")] = 0;
    return key;
}

static struct form form_make(const struct options *o, const struct rows *queries)
{
    const size_t data = o->batch * o->dim * sizeof(float);
    struct form f = {.head = mem_new(1, HEAD), .queries = queries,
                     .row_bytes = o->dim * sizeof(float)};
    char tensor[256];
    uint64_t len;
    int n, t;

    t = snprintf(tensor, sizeof tensor,
                 "{\"queries\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]}}",
                 o->batch, o->dim, data);
    while (t % 8) /* tensors begin on 8 bytes, padded with spaces */
        tensor[t++] = ' ';
    len = (uint64_t)t;
    n = snprintf(f.head, HEAD - sizeof tensor,
                 "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
                 "Content-Type: application/vnd.safetensors\r\nContent-Length: %zu\r\n\r\n",
                 o->path, o->address, key_read(o->key_file), 8 + (size_t)t + data);
    if (n < 0 || (size_t)n >= HEAD - sizeof tensor - 8)
        die("the path or the key is too long");
    memcpy(f.head + n, &len, 8); /* little-endian, as this bench's machines are */
    memcpy(f.head + n + 8, tensor, (size_t)t);
    f.head_len = (size_t)n + 8 + (size_t)t;
    return f;
}

/* Sends what the socket takes. */
static void client_send(struct bench *b, struct client *c)
{
    const struct form *f = &b->form;
    const size_t total = f->head_len + b->o.batch * f->row_bytes;

    while (c->sent < total) {
        ssize_t n;

        if (c->sent < f->head_len) {
            n = send(c->fd, f->head + c->sent, f->head_len - c->sent, MSG_NOSIGNAL | MSG_MORE);
        } else {
            const size_t at = c->sent - f->head_len;
            const size_t row = (c->request * b->o.batch + at / f->row_bytes) % f->queries->count;
            const char *from = (const char *)(f->queries->at + row * f->queries->dim);

            n = send(c->fd, from + at % f->row_bytes, f->row_bytes - at % f->row_bytes,
                     MSG_NOSIGNAL | (c->sent + f->row_bytes < total ? MSG_MORE : 0));
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            die("sending: %s", strerror(errno));
        c->sent += (size_t)n;
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Length of the reply, once its head is there. */
static size_t reply_length(const char *in, size_t len)
{
    const char *end = memmem(in, len, "\r\n\r\n", 4), *field;
    size_t body;

    if (!end)
        return 0;
    field = strcasestr(in, "\r\ncontent-length:");
    if (strncmp(in, "HTTP/1.1 200", 12) != 0 || !field || field > end)
        die("answered: %.*s", (int)(len < 600 ? len : 600), in);
    body = strtoull(field + 17, NULL, 10);
    if (body > ANSWER_MOST)
        die("an answer of %zu bytes", body);
    return (size_t)(end - in) + 4 + body;
}

static void client_done(struct bench *b, struct client *c)
{
    const char *body = strstr(c->in, "\r\n\r\n") + 4;
    const char *took = strstr(body, "\"took_ms\":");

    b->seen[c->request] = milliseconds() - c->began;
    b->took[c->request] = took ? strtod(took + 10, NULL) : 0;
    if (b->answers)
        fprintf(b->answers, "%zu\t%s\n", c->request, body);
    b->done++;
}

static void client_start(struct bench *b, struct client *c)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

    c->request = b->next++;
    c->sent = c->in_len = c->need = 0;
    c->began = milliseconds();
    client_send(b, c);
    if (epoll_ctl(b->poll, EPOLL_CTL_MOD, c->fd, &ev))
        die("epoll: %s", strerror(errno));
}

static void client_receive(struct bench *b, struct client *c)
{
    for (;;) {
        ssize_t n;

        if (c->in_room - c->in_len < 2) {
            char *more = mem_big(1, c->in_room * 2);

            if (!more)
                die("no memory for an answer of %zu bytes", c->in_room);
            memcpy(more, c->in, c->in_len);
            free(c->in);
            c->in = more;
            c->in_room *= 2;
        }
        n = recv(c->fd, c->in + c->in_len, c->in_room - c->in_len - 1, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            die("the server closed a connection: %s", n ? strerror(errno) : "end of file");
        c->in_len += (size_t)n;
        c->in[c->in_len] = 0;
        if (!c->need)
            c->need = reply_length(c->in, c->in_len);
        if (c->need && c->in_len >= c->need) {
            client_done(b, c);
            if (b->next < b->o.requests)
                client_start(b, c);
            return;
        }
    }
}

static void client_connect(struct bench *b, struct client *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
    char host[64];
    unsigned short port;
    int one = 1;

    if (sscanf(b->o.address, "%63[^:]:%hu", host, &port) != 2 ||
        inet_pton(AF_INET, host, &to.sin_addr) != 1)
        die("%s is not HOST:PORT with an IPv4 address", b->o.address);
    to.sin_port = htons(port);
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                         .in = mem_new(1, ANSWER_FIRST), .in_room = ANSWER_FIRST};
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        die("cannot connect to %s: %s", b->o.address, strerror(errno));
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK))
        die("fcntl: %s", strerror(errno));
    if (epoll_ctl(b->poll, EPOLL_CTL_ADD, c->fd, &ev))
        die("epoll: %s", strerror(errno));
}

/* --- all of it -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_quantiles(const char *name, double *x, size_t count)
{
    qsort(x, count, sizeof *x, by_value);
    printf("\"%s\":{\"min\":%.4f,\"p50\":%.4f,\"p95\":%.4f,\"p99\":%.4f}", name, x[0],
           x[count / 2], x[count * 95 / 100], x[count * 99 / 100]);
}

static void report(struct bench *b, double ms)
{
    const size_t n = b->o.requests;
    double *adds = mem_new(n, sizeof *adds);

    for (size_t i = 0; i < n; i++)
        adds[i] = b->seen[i] - b->took[i];
    printf("{\"bench\":\"http\",\"clients\":%zu,\"requests\":%zu,\"batch\":%zu,\"qps\":%.2f,",
           b->o.clients, n, b->o.batch, (double)(n * b->o.batch) / ms * 1e3);
    print_quantiles("ms", b->seen, n);
    printf(",");
    print_quantiles("took_ms", b->took, n);
    printf(",");
    print_quantiles("adds_ms", adds, n);
    printf("}\n");
    free(adds);
}

static void all_clients(struct bench *b)
{
    struct client *clients = mem_new(b->o.clients, sizeof *clients);
    struct epoll_event ev[64];
    double began;

    for (size_t n = 0; n < b->o.clients; n++)
        client_connect(b, &clients[n]);
    began = milliseconds();
    for (size_t n = 0; n < b->o.clients; n++)
        client_start(b, &clients[n]);
    while (b->done < b->o.requests) {
        const int n = epoll_wait(b->poll, ev, 64, 60000);

        if (n <= 0)
            die("no answer for a minute");
        for (int i = 0; i < n; i++) {
            struct client *c = ev[i].data.ptr;

            if (ev[i].events & EPOLLOUT)
                client_send(b, c);
            if (ev[i].events & ~(uint32_t)EPOLLOUT)
                client_receive(b, c);
        }
    }
    report(b, milliseconds() - began);
    for (size_t n = 0; n < b->o.clients; n++) {
        close(clients[n].fd);
        free(clients[n].in);
    }
    free(clients);
}

static struct options options_read(int argc, char **argv)
{
    struct options o = {.clients = 1, .requests = 40, .batch = 1};
    const struct {
        const char *name;
        const char **text;
        size_t *number;
    } v[] = {
        {"--address", &o.address, NULL}, {"--key-file", &o.key_file, NULL},
        {"--path", &o.path, NULL},       {"--queries", &o.queries, NULL},
        {"--answers", &o.answers, NULL}, {"--dim", NULL, &o.dim},
        {"--clients", NULL, &o.clients}, {"--requests", NULL, &o.requests},
        {"--batch", NULL, &o.batch},
    };

    for (int i = 1; i < argc; i += 2) {
        size_t n = 0;

        while (n < sizeof v / sizeof v[0] && strcmp(argv[i], v[n].name) != 0)
            n++;
        if (n == sizeof v / sizeof v[0] || i + 1 == argc)
            die("unknown or unfinished option %s", argv[i]);
        if (v[n].text)
            *v[n].text = argv[i + 1];
        else if ((*v[n].number = strtoull(argv[i + 1], NULL, 10)) == 0)
            die("%s %s: not a positive number", v[n].name, argv[i + 1]);
    }
    if (!o.address || !o.key_file || !o.path || !o.queries || !o.dim ||
        o.clients > MOST_CLIENTS || o.requests < o.clients)
        die("wanted: --address --key-file --path --queries --dim; at most %d clients, and a "
            "request for each", MOST_CLIENTS);
    return o;
}

int main(int argc, char **argv)
{
    struct bench b = {.o = options_read(argc, argv), .poll = epoll_create1(EPOLL_CLOEXEC)};
    struct rows queries = rows_open(b.o.queries, b.o.dim, 0, 1 << 20);

    b.form = form_make(&b.o, &queries);
    b.seen = mem_new(b.o.requests, sizeof *b.seen);
    b.took = mem_new(b.o.requests, sizeof *b.took);
    b.answers = b.o.answers ? fopen(b.o.answers, "w") : NULL;
    if (b.poll < 0 || (b.o.answers && !b.answers))
        die("epoll or %s: %s", b.o.answers ? b.o.answers : "-", strerror(errno));
    all_clients(&b);
    if (b.answers && fclose(b.answers))
        die("%s: %s", b.o.answers, strerror(errno));
    free(b.seen);
    free(b.took);
    free(b.form.head);
    rows_free(&queries);
    close(b.poll);
    return 0;
}
