/* head.c - see head.h. */
#include "server/head.h"

#include <string.h>
#include <strings.h>

#include "server/http.h"

static struct head *of(llhttp_t *p)
{
    return p->data;
}

/* Spans come in pieces that lie next to each other in the caller's buffer. */
static void extend(const struct head *h, struct head_span *s, const char *at, size_t len)
{
    if (s->len == 0)
        s->at = (uint32_t)(at - h->base);
    s->len += (uint32_t)len;
}

static int on_url(llhttp_t *p, const char *at, size_t len)
{
    struct head *h = of(p);

    extend(h, &h->target, at, len);
    if (h->target.len <= LIMIT_URI_BYTES)
        return 0;
    err_set(&h->err, ERR_URI_TOO_LONG, "the request target is longer than %u bytes",
            LIMIT_URI_BYTES);
    err_at_limit(&h->err, LIMIT_URI_BYTES);
    return -1;
}

static int on_field(llhttp_t *p, const char *at, size_t len)
{
    struct head *h = of(p);

    if (h->in_value || h->field_count == 0) {
        if (h->field_count == LIMIT_HEADERS) {
            err_set(&h->err, ERR_HEADERS_TOO_LARGE, "more than %u header fields", LIMIT_HEADERS);
            err_at_limit(&h->err, LIMIT_HEADERS);
            return -1;
        }
        h->field[h->field_count++] = (struct head_field){{0, 0}, {0, 0}};
        h->in_value = false;
    }
    extend(h, &h->field[h->field_count - 1].name, at, len);
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t len)
{
    struct head *h = of(p);

    h->in_value = true;
    extend(h, &h->field[h->field_count - 1].value, at, len);
    return 0;
}

/* Called for empty values too, which on_value is not always. */
static int on_value_end(llhttp_t *p)
{
    of(p)->in_value = true;
    return 0;
}

static int on_head_end(llhttp_t *p)
{
    of(p)->complete = true;
    return HPE_PAUSED; /* the body is not the parser's business */
}

void head_start(struct head *h)
{
    static llhttp_settings_t settings;

    if (!settings.on_url) { /* the same values each time; loop thread only */
        llhttp_settings_init(&settings);
        settings.on_url = on_url;
        settings.on_header_field = on_field;
        settings.on_header_value = on_value;
        settings.on_header_value_complete = on_value_end;
        settings.on_headers_complete = on_head_end;
    }
    llhttp_init(&h->parser, HTTP_REQUEST, &settings);
    h->parser.data = h;
    h->fed = 0;
    h->size = 0;
    h->complete = false;
    h->in_value = false;
    h->target = (struct head_span){0, 0};
    h->field_count = 0;
    err_clear(&h->err);
}

/* Line ends are CRLF and nothing else, and no line continues another: what two programs may read in
 * two ways is how requests are smuggled (RFC 9112, sections 2.2 and 5.2). */
static int check_lines(struct head *h, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const char *what = NULL;
        if (bytes[i] == '\n' && (i == 0 || bytes[i - 1] != '\r'))
            what = "a line feed without carriage return";
        else if (bytes[i] == '\r' && i + 1 < size && bytes[i + 1] != '\n')
            what = "a carriage return without line feed";
        else if (bytes[i] == '\n' && i + 1 < size && (bytes[i + 1] == ' ' || bytes[i + 1] == '\t'))
            what = "a folded header line";
        if (what) {
            err_set(&h->err, ERR_BAD_HTTP, "%s in the head", what);
            return err_at_index(&h->err, (int64_t)i);
        }
    }
    return 0;
}

/* A name is a token and its colon follows at once (RFC 9112, section 5.1). */
static int check_names(struct head *h, const char *bytes)
{
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct head_span *n = &h->field[i].name;
        if (n->len && strspn(bytes + n->at, HTTP_TOKEN) == n->len && bytes[n->at + n->len] == ':')
            continue;
        err_set(&h->err, ERR_BAD_HTTP, "a header name is not followed by its colon");
        return err_at_index(&h->err, (int64_t)n->at);
    }
    return 0;
}

/* llhttp knows other protocols that look alike (ICE, RTSP). */
static int check_protocol(struct head *h, const char *bytes, size_t size)
{
    size_t at = h->target.at + h->target.len + 1;

    if (at + 5 <= size && memcmp(bytes + at, "HTTP/", 5) == 0)
        return 0;
    err_set(&h->err, ERR_BAD_HTTP, "the protocol is not HTTP");
    return err_at_index(&h->err, (int64_t)at);
}

/* llhttp leaves the optional white space after a value in it. */
static void trim_values(struct head *h, const char *bytes)
{
    for (uint32_t i = 0; i < h->field_count; i++) {
        struct head_span *v = &h->field[i].value;
        while (v->len && (bytes[v->at + v->len - 1] == ' ' || bytes[v->at + v->len - 1] == '\t'))
            v->len--;
    }
}

/* llhttp's own reasons for these two name the parser's insides. */
static const char *reason(const struct head *h, llhttp_errno_t rc)
{
    if (rc == HPE_PAUSED_H2_UPGRADE)
        return "HTTP/2 without TLS is not spoken here";
    if (rc == HPE_INVALID_METHOD)
        return "the method is not one of HTTP";
    return llhttp_get_error_reason(&h->parser);
}

int head_feed(struct head *h, const char *bytes, size_t len)
{
    llhttp_errno_t rc;
    const char *stop;

    h->base = bytes;
    rc = llhttp_execute(&h->parser, bytes + h->fed, len - h->fed);
    stop = llhttp_get_error_pos(&h->parser);
    h->base = NULL;
    if (h->complete && rc == HPE_PAUSED) {
        h->size = (size_t)(stop - bytes);
        h->fed = h->size;
        trim_values(h, bytes);
        if (check_protocol(h, bytes, h->size) || check_lines(h, bytes, h->size))
            return (int)h->err.code;
        return check_names(h, bytes);
    }
    h->fed = len;
    if (rc == HPE_OK)
        return 0;
    if (h->err.code == ERR_OK) {
        const char *why = reason(h, rc);
        err_set(&h->err, ERR_BAD_HTTP, "%s", why && *why ? why : "not a well-formed head");
        if (stop)
            err_at_index(&h->err, (int64_t)(stop - bytes));
    }
    return (int)h->err.code;
}

const struct head_field *head_find(const struct head *h, const char *bytes, const char *name,
                                   unsigned *out_count)
{
    const struct head_field *found = NULL;

    *out_count = 0;
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct head_field *f = &h->field[i];
        if (!http_equal(bytes + f->name.at, f->name.len, name))
            continue;
        if ((*out_count)++ == 0)
            found = f;
    }
    return found;
}

static int twice(struct err *e, const char *name)
{
    err_set(e, ERR_BAD_HTTP, "the header %s is there more than once", name);
    return err_at_field(e, name);
}

/* Tabs are lawful around a value (RFC 9110, section 5.6.3), nobody sends them, and programs differ
 * over them: nginx does not take "\tchunked" for what it says. */
static bool tab_beside(const char *bytes, const struct head_span *v)
{
    const char *p = bytes + v->at;

    if (v->len == 0)
        return false;
    while (p[-1] == ' ')
        p--;
    if (p[-1] == '\t')
        return true;
    p = bytes + v->at + v->len;
    return p[strspn(p, " ")] == '\t';
}

static void framing_connection(const struct head *h, const char *bytes, struct head_framing *out)
{
    bool close = false, keep = false;

    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct head_field *f = &h->field[i];
        if (!http_equal(bytes + f->name.at, f->name.len, "Connection"))
            continue;
        close = close || http_list_has(bytes + f->value.at, f->value.len, "close");
        keep = keep || http_list_has(bytes + f->value.at, f->value.len, "keep-alive");
    }
    out->keep_alive = !close && (!out->http10 || keep);
}

static int framing_body(const struct head *h, const char *bytes, struct head_framing *out,
                        struct err *e)
{
    unsigned lengths, encodings;
    const struct head_field *length, *encoding;

    length = head_find(h, bytes, "Content-Length", &lengths);
    encoding = head_find(h, bytes, "Transfer-Encoding", &encodings);
    if (lengths > 1)
        return twice(e, "Content-Length");
    if (lengths && encodings)
        return err_set(e, ERR_BAD_HTTP, "both Content-Length and Transfer-Encoding");
    if (encodings > 1)
        return twice(e, "Transfer-Encoding");
    if ((length && tab_beside(bytes, &length->value)) ||
        (encoding && tab_beside(bytes, &encoding->value)))
        return err_set(e, ERR_BAD_HTTP, "a tab beside the value that says where the body ends");
    if (encodings &&
        (out->http10 || !http_equal(bytes + encoding->value.at, encoding->value.len, "chunked"))) {
        err_set(e, ERR_BAD_HTTP, "of the transfer encodings only `chunked` is taken (HTTP/1.1)");
        return err_at_field(e, "Transfer-Encoding");
    }
    out->chunked = encodings == 1;
    out->has_length = lengths == 1;
    out->length = lengths ? h->parser.content_length : 0;
    return 0;
}

static int framing_expect(const struct head *h, const char *bytes, struct head_framing *out,
                          struct err *e)
{
    unsigned count;
    const struct head_field *f = head_find(h, bytes, "Expect", &count);

    if (count == 0 || out->http10)
        return 0;
    if (count > 1 || !http_equal(bytes + f->value.at, f->value.len, "100-continue")) {
        err_set(e, ERR_BAD_HTTP, "of the expectations only `100-continue` can be met");
        return err_at_field(e, "Expect");
    }
    out->expects_continue = true;
    return 0;
}

/* A name or address and perhaps a port (RFC 3986, section 3.2; RFC 9112, section 3.2, asks for
 * this). Empty is lawful: for a target that has no authority. */
static int framing_host(const struct head *h, const char *bytes, const struct head_framing *out,
                        struct err *e)
{
    static const char good[] = "-._~!$&'()*+,;=%:[]0123456789"
                               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    unsigned hosts;
    const struct head_field *host = head_find(h, bytes, "Host", &hosts);

    if (hosts > 1)
        return twice(e, "Host");
    if (hosts == 1 && strspn(bytes + host->value.at, good) >= host->value.len &&
        (host->value.len == 0 || bytes[host->value.at] != ':') && !tab_beside(bytes, &host->value))
        return 0;
    if (hosts == 0 && out->http10)
        return 0;
    err_set(e, ERR_BAD_HTTP, hosts ? "the header Host is no host" : "the header Host is missing");
    return err_at_field(e, "Host");
}

int head_framing(const struct head *h, const char *bytes, struct head_framing *out, struct err *e)
{

    *out = (struct head_framing){.method = head_method(h)};
    if (h->parser.http_major != 1 || h->parser.http_minor > 1)
        return err_set(e, ERR_BAD_HTTP, "HTTP/%u.%u: only 1.1 and 1.0 are spoken here",
                       h->parser.http_major, h->parser.http_minor);
    out->http10 = h->parser.http_minor == 0;
    if (framing_host(h, bytes, out, e))
        return (int)e->code;
    framing_connection(h, bytes, out);
    if (framing_body(h, bytes, out, e))
        return (int)e->code;
    return framing_expect(h, bytes, out, e);
}

const char *head_method(const struct head *h)
{
    return llhttp_method_name((llhttp_method_t)h->parser.method);
}
