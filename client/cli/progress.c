/* progress.c - the bar and the lines. One thread. */
#include "client/cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/cli.h"

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void progress_start(struct progress *p, const char *what, bool quiet)
{
    *p = (struct progress){.what = what, .start_ms = now_ms()};
    p->bar = !quiet && isatty(STDERR_FILENO);
    p->lines = !quiet && !p->bar;
    meter_start(&p->meter, p->start_ms, 0);
}

double progress_seconds(const struct progress *p)
{
    return (double)(now_ms() - p->start_ms) / 1000;
}

static double fraction_of(const struct progress_state *s)
{
    double f = s->fraction;

    if (f < 0)
        f = s->bytes_total ? (double)s->bytes / (double)s->bytes_total : -1;
    return f > 1 ? 1 : f;
}

enum { SHOW_TOTAL = 1, SHOW_ROWS = 2, SHOW_ALL = 3 };

/* What stands behind the bar, with the parts that there is room for. */
static void tail_text(const struct progress_state *s, double f, double rate, double eta_s,
                      unsigned parts, char *out, size_t cap)
{
    char a[32], b[32] = "";
    size_t at = 0;

    out[0] = '\0';
    if (f >= 0)
        at += (size_t)snprintf(out + at, cap - at, " %3.0f%%", floor(f * 100));
    if (s->bytes_total && (parts & SHOW_TOTAL))
        out_bytes((double)s->bytes_total, b);
    if (s->bytes > 0 || s->bytes_total > 0)
        at += (size_t)snprintf(out + at, cap - at, "  %s%s%s", out_bytes((double)s->bytes, a),
                               *b ? " of " : "", b);
    if (s->rows_total > 0 && (parts & SHOW_ROWS))
        at += (size_t)snprintf(out + at, cap - at, "  %s rows", out_count(s->rows, a));
    if (rate > 0)
        at += (size_t)snprintf(out + at, cap - at, "  %s/s", out_bytes(rate, a));
    if (f >= 0 && f < 1)
        at += (size_t)snprintf(out + at, cap - at, "  ETA %s", out_duration(eta_s, a));
    if (s->note)
        snprintf(out + at, cap - at, "  %.20s", s->note);
}

void progress_text(const char *what, const struct progress_state *s, double rate, double eta_s,
                   unsigned columns, char *out, size_t cap)
{
    static const unsigned wishes[] = {SHOW_ALL, SHOW_TOTAL, 0};
    enum { BAR_LEAST = 10, BAR_MOST = 40 };
    char tail[240], bar[BAR_MOST + 1], name[64];
    double f = fraction_of(s);
    size_t used = 0, room = 0, full;
    int cut;

    term_line(what, strlen(what), 40, name, sizeof name);
    for (unsigned i = 0; i < 3; i++) { /* fewer parts until a bar fits as well */
        tail_text(s, f, rate, eta_s, wishes[i], tail, sizeof tail);
        used = strlen(name) + strlen(tail) + 3;
        room = columns > used ? columns - used : 0;
        if (room >= BAR_LEAST)
            break;
    }
    if (room > BAR_MOST)
        room = BAR_MOST;
    if (f < 0 || room < BAR_LEAST) {
        cut = (int)(columns ? columns : cap);
        snprintf(out, cap, "%.*s", cut, name);
        used = strlen(out);
        snprintf(out + used, cap - used, "%.*s", cut > (int)used ? cut - (int)used : 0, tail);
        return;
    }
    full = (size_t)(f * (double)room);
    memset(bar, '#', full);
    memset(bar + full, '-', room - full);
    bar[room] = '\0';
    snprintf(out, cap, "%s [%s]%s", name, bar, tail);
}

static void draw_bar(struct progress *p, const struct progress_state *s, double rate, double eta)
{
    char text[512];
    unsigned columns = term_columns(STDERR_FILENO);

    /* The last column stays free: some terminals wrap when it is written. */
    progress_text(p->what, s, rate, eta, columns > 1 ? columns - 1 : 79, text, sizeof text);
    fprintf(stderr, "\r%s\033[K", text);
    fflush(stderr);
    p->drawn = true;
}

static void draw_line(const struct progress *p, const struct progress_state *s, double rate,
                      double eta)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:f}", "event", "progress", "what", p->what, "bytes",
                          (json_int_t)s->bytes, "elapsed_s", progress_seconds(p));
    double f = fraction_of(s);
    char *text;

    if (!o)
        return;
    if (s->bytes_total)
        json_object_set_new(o, "bytes_total", json_integer((json_int_t)s->bytes_total));
    if (s->rows_total) {
        json_object_set_new(o, "rows", json_integer((json_int_t)s->rows));
        json_object_set_new(o, "rows_total", json_integer((json_int_t)s->rows_total));
    }
    json_object_set_new(o, "progress", f >= 0 ? json_real(f) : json_null());
    json_object_set_new(o, "rate", rate > 0 ? json_real(rate) : json_null());
    json_object_set_new(o, "eta_s", eta >= 0 ? json_real(eta) : json_null());
    text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (text)
        fprintf(stderr, "%s\n", text);
    free(text);
    json_decref(o);
}

void progress_show(struct progress *p, const struct progress_state *s, bool last)
{
    uint64_t now = now_ms();
    double rate, eta;

    if ((!p->bar && !p->lines) || (!last && now - p->drawn_ms < (p->bar ? 100 : 1000)))
        return;
    p->drawn_ms = now;
    meter_feed(&p->meter, now, s->bytes);
    rate = s->rate >= 0 ? s->rate : p->meter.rate;
    eta = s->eta_s >= 0 ? s->eta_s : s->bytes_total ? meter_eta(&p->meter, s->bytes_total) : -1;
    if (p->bar)
        draw_bar(p, s, rate, eta);
    else
        draw_line(p, s, rate, eta);
}

void progress_end(struct progress *p)
{
    if (p->drawn)
        fputc('\n', stderr);
    p->drawn = false;
}
