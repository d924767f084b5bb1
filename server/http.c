/* http.c - see http.h. */
#include "server/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

char *http_decode(struct arena *a, const char *text, size_t len, bool plus)
{
    char *out = arena_new(a, len + 1, 1);
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = len - i > 2 ? hex(text[i + 1]) : -1;
            int low = len - i > 2 ? hex(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return NULL;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == '\0')
            return NULL;
        out[n++] = c;
    }
    return out;
}

static void trim(const char **text, size_t *len)
{
    while (*len && (**text == ' ' || **text == '\t')) {
        (*text)++;
        (*len)--;
    }
    while (*len && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t'))
        (*len)--;
}

bool http_equal(const char *text, size_t len, const char *token)
{
    return len == strlen(token) && strncasecmp(text, token, len) == 0;
}

bool http_list_has(const char *value, size_t len, const char *token)
{
    while (len) {
        const char *comma = memchr(value, ',', len);
        size_t part = comma ? (size_t)(comma - value) : len;
        const char *item = value;
        size_t item_len = part;

        trim(&item, &item_len);
        if (http_equal(item, item_len, token))
            return true;
        if (!comma)
            break;
        value += part + 1;
        len -= part + 1;
    }
    return false;
}

const char *http_media_type(struct arena *a, const char *value, size_t len)
{
    const char *semicolon = memchr(value, ';', len);
    char *out;

    if (semicolon)
        len = (size_t)(semicolon - value);
    trim(&value, &len);
    out = arena_copy(a, value, len);
    for (char *p = out; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    return out;
}

/* RFC 9110 and RFC 6585. */
const char *http_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].phrase;
    return "Unknown";
}

/* absolute-form: past scheme and authority (RFC 9112, section 3.2.2: servers must take it) */
static const char *past_authority(const char *target, const char *end)
{
    const char *p = target, *authority;

    if (end - p > 7 && strncasecmp(p, "http://", 7) == 0)
        p += 7;
    else if (end - p > 8 && strncasecmp(p, "https://", 8) == 0)
        p += 8;
    else
        return NULL;
    authority = p;
    while (p < end && *p != '/' && *p != '?')
        p++;
    return p == authority ? NULL : p; /* RFC 9110, section 4.2.1: never an empty host */
}

int http_target(const char *target, size_t len, struct http_target *out, struct err *e)
{
    const char *end = target + len, *path = target, *mark;

    for (size_t i = 0; i < len; i++)
        if (target[i] <= ' ' || target[i] >= 0x7f || target[i] == '#') {
            err_set(e, ERR_BAD_HTTP, "the request target has a byte that must be percent-encoded");
            return err_at_index(e, (int64_t)i);
        }
    if (len == 0 || *path != '/')
        path = past_authority(target, end);
    if (!path)
        return err_set(e, ERR_BAD_HTTP, "the request target must begin with a slash");
    mark = memchr(path, '?', (size_t)(end - path));
    out->path = path;
    out->path_len = (size_t)((mark ? mark : end) - path);
    out->query = mark ? mark + 1 : end;
    out->query_len = (size_t)(end - out->query);
    if (out->path_len == 0) {
        out->path = "/";
        out->path_len = 1;
    }
    return 0;
}

void http_reply_head(struct buf *out, const struct http_reply *r)
{
    buf_format(out, "HTTP/1.1 %d %s\r\nServer: ascribe\r\nDate: %s\r\n", r->status,
               http_phrase(r->status), r->date);
    if (r->type)
        buf_format(out, "Content-Type: %s\r\n", r->type);
    /* 204 and 304 have no body and say no length (RFC 9110, section 8.6) */
    if (r->status != 204 && r->status != 304)
        buf_format(out, "Content-Length: %llu\r\n", (unsigned long long)r->length);
    if (r->location)
        buf_format(out, "Location: %s\r\n", r->location);
    if (r->request_id && *r->request_id)
        buf_format(out, "X-Request-Id: %s\r\n", r->request_id);
    if (r->extra)
        buf_add_text(out, r->extra);
    if (!r->keep_alive)
        buf_add_text(out, "Connection: close\r\n");
    else if (r->http10)
        buf_add_text(out, "Connection: keep-alive\r\n");
    buf_add_text(out, "\r\n");
}

void http_json_string(struct buf *out, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t len = strlen(text), bad = bytes_utf8_error(p, len);

    buf_add_text(out, "\"");
    for (size_t i = 0; i < len; i++) {
        if (i == bad) {
            buf_add_text(out, "\xEF\xBF\xBD"); /* U+FFFD */
            bad = i + 1 + bytes_utf8_error(p + i + 1, len - i - 1);
        } else if (p[i] == '"' || p[i] == '\\') {
            buf_format(out, "\\%c", p[i]);
        } else if (p[i] < ' ') {
            buf_format(out, "\\u%04x", p[i]);
        } else {
            buf_add(out, p + i, 1);
        }
    }
    buf_add_text(out, "\"");
}

void http_problem(struct buf *out, const struct err *e, const char *request_id)
{
    int status = err_status(e->code);

    buf_format(out, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\"",
               http_phrase(status), status, err_word(e->code));
    buf_add_text(out, ",\"detail\":");
    http_json_string(out, e->text);
    buf_add_text(out, ",\"request_id\":");
    http_json_string(out, request_id);
    if (e->field[0]) {
        buf_add_text(out, ",\"field\":");
        http_json_string(out, e->field);
    }
    if (e->index >= 0)
        buf_format(out, ",\"index\":%lld", (long long)e->index);
    if (e->limit >= 0)
        buf_format(out, ",\"limit\":%lld", (long long)e->limit);
    buf_add_text(out, "}\n");
}

void http_date(int64_t unix_seconds, char out[32])
{
    static const char *const day[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const month[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)unix_seconds;
    struct tm utc;

    gmtime_r(&t, &utc); /* not strftime: the names must not follow the locale */
    snprintf(out, 32, "%s, %02u %s %04u %02u:%02u:%02u GMT", day[utc.tm_wday % 7],
             (unsigned)utc.tm_mday % 100, month[utc.tm_mon % 12],
             (unsigned)(utc.tm_year + 1900) % 10000, (unsigned)utc.tm_hour % 100,
             (unsigned)utc.tm_min % 100, (unsigned)utc.tm_sec % 100);
}

/* ---- chunked --------------------------------------------------------------------------------- */

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF };

static int broken(struct err *e, const char *what)
{
    return err_set(e, ERR_BAD_HTTP, "chunked body: %s", what);
}

/* May `byte` stand in an extension or in a trailer? No control characters; in an extension no bytes
 * past ASCII either. */
static bool printable(char byte, bool ascii)
{
    unsigned char c = (unsigned char)byte;

    return c == '\t' || (c >= ' ' && c < 0x7f) || (c >= 0x80 && !ascii);
}

/* An extension has a name: "5;" alone is none. */
static int extension_byte(struct chunked *c, char byte, struct err *e)
{
    if (byte == '\r' && c->overhead)
        c->state = SIZE_LF;
    else if (!printable(byte, true) || ++c->overhead > CHUNKED_OVERHEAD)
        return broken(e, "a chunk extension is malformed or too long");
    return 0;
}

/* Trailers mean nothing here, but they are lines of the form `name: value`. Whatever else stands
 * there is the next request of somebody who thinks the body is over. */
static int trailer_byte(struct chunked *c, char byte, struct err *e)
{
    bool ok;

    if (c->in_value)
        ok = printable(byte, false) || byte == '\r';
    else if (c->line_empty)
        ok = byte == '\r' || (byte && strchr(HTTP_TOKEN, byte));
    else
        ok = byte == ':' || (byte && strchr(HTTP_TOKEN, byte));

    if (!ok || ++c->overhead > CHUNKED_OVERHEAD)
        return broken(e, "the trailers are malformed or too long");
    if (byte == '\r') {
        c->state = TRAILER_LF;
        c->in_value = false;
    } else {
        c->line_empty = false;
        c->in_value = c->in_value || byte == ':';
    }
    return 0;
}

/* One byte of framing. */
static int chunked_byte(struct chunked *c, char byte, struct err *e)
{
    int digit;

    switch (c->state) {
    case SIZE:
        digit = hex(byte);
        if (digit >= 0) {
            if (++c->digits > 15)
                return broken(e, "a chunk size of more than 15 digits");
            c->left = c->left << 4 | (unsigned)digit;
            return 0;
        }
        if (c->digits == 0)
            return broken(e, "a chunk size is missing");
        if (byte != ';' && byte != '\r')
            return broken(e, "a byte that is no digit in a chunk size");
        c->state = byte == ';' ? EXTENSION : SIZE_LF;
        return 0;
    case EXTENSION:
        return extension_byte(c, byte, e);
    case SIZE_LF:
        if (byte != '\n')
            return broken(e, "no line feed after a chunk size");
        c->state = c->left ? DATA : TRAILER;
        c->digits = 0;
        c->overhead = 0;
        c->line_empty = true;
        return 0;
    case DATA_CR:
        if (byte != '\r')
            return broken(e, "a chunk is longer than its size");
        c->state = DATA_LF;
        return 0;
    case DATA_LF:
        if (byte != '\n')
            return broken(e, "no line feed after a chunk");
        c->state = SIZE;
        return 0;
    case TRAILER:
        return trailer_byte(c, byte, e);
    default: /* TRAILER_LF */
        if (byte != '\n')
            return broken(e, "no line feed after a trailer");
        c->done = c->line_empty;
        c->line_empty = true;
        c->state = TRAILER;
        return 0;
    }
}

int chunked_feed(struct chunked *c, const char *in, size_t len, size_t *out_used,
                 int (*data)(void *arg, const char *bytes, size_t n), void *arg, struct err *e)
{
    size_t i = 0;
    int rc = 0;

    while (i < len && !c->done && !rc) {
        if (c->state == DATA) {
            size_t take = len - i < c->left ? len - i : (size_t)c->left;
            rc = data(arg, in + i, take);
            i += take;
            c->left -= take;
            if (c->left == 0)
                c->state = DATA_CR;
        } else {
            rc = chunked_byte(c, in[i++], e);
        }
    }
    *out_used = i;
    return rc;
}
