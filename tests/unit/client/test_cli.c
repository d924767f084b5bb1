/* test_cli.c - the parts of the command line that compute: rates and ETA, the bar, text cut to a
 * width, numbers, JSON Lines in groups, the command line's tables. Their sources are included: the
 * program has no archive of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/args.c"
#include "client/cli/lines.c"
#include "client/cli/meter.c"
#include "client/cli/out.c"
#include "client/cli/term.c"
#include "client/cli/progress.c"

/* --- Rates ----------------------------------------------------------------------------------------- */

static void a_steady_rate_is_found(void **state)
{
    struct meter m;

    (void)state;
    meter_start(&m, 1000, 0);
    assert_true(meter_eta(&m, 100) == -1); /* nothing is known yet */
    for (uint64_t t = 1; t <= 300; t++)
        meter_feed(&m, 1000 + t * 100, t * 1000);
    assert_true(fabs(m.rate - 10000) < 1e-6);
    assert_true(fabs(meter_eta(&m, 300000 + 50000) - 5) < 1e-9);
    assert_true(meter_eta(&m, 300000) == 0);
    assert_true(meter_eta(&m, 1) == -1); /* more than all is done: nothing can be said */
}

static void a_new_rate_is_followed(void **state)
{
    struct meter m;
    uint64_t amount = 0, now = 0;

    (void)state;
    meter_start(&m, 0, 0);
    for (; now < 60000; now += 100, amount += 1000)
        meter_feed(&m, now, amount);
    for (; now < 85000; now += 100, amount += 100)
        meter_feed(&m, now, amount);
    assert_true(m.rate > 1000 && m.rate < 1200); /* 5 time constants later */
}

static void time_and_amounts_may_stand_or_go_back(void **state)
{
    struct meter m, before;

    (void)state;
    meter_start(&m, 1000, 50);
    meter_feed(&m, 2000, 150);
    assert_true(m.rate == 100);
    before = m;
    meter_feed(&m, 2000, 999); /* no time has passed */
    meter_feed(&m, 1500, 999); /* nor the other way */
    meter_feed(&m, 3000, 140); /* a retry took bytes back */
    assert_memory_equal(&m, &before, sizeof m);
    meter_feed(&m, 4000, 150); /* it stands still */
    assert_true(m.rate < 100 && m.rate > 0);
}

/* --- The bar --------------------------------------------------------------------------------------- */

static void the_bar_fits(void **state)
{
    struct progress_state s = PROGRESS_STATE_NONE;
    char text[512];

    (void)state;
    s.bytes = 50 << 20;
    s.bytes_total = 200 << 20;
    s.rows = 1234567;
    s.rows_total = 5000000;
    progress_text("ingest c", &s, 10 << 20, 15, 100, text, sizeof text);
    assert_string_equal(text, "ingest c [######-------------------]  25%  50.0 MiB of 200 MiB  "
                              "1,234,567 rows  10.0 MiB/s  ETA 0:15");
    for (unsigned columns = 1; columns < 200; columns++) {
        progress_text("ingest c", &s, 10 << 20, 15, columns, text, sizeof text);
        assert_true(strlen(text) <= columns);
    }
    s.bytes = s.bytes_total;
    progress_text("ingest c", &s, 10 << 20, 0, 80, text, sizeof text);
    assert_non_null(strstr(text, "100%"));
    assert_null(strstr(text, "-]"));
    assert_null(strstr(text, "ETA"));
    s.bytes = s.bytes_total * 2; /* never more than full */
    progress_text("ingest c", &s, 10 << 20, 0, 80, text, sizeof text);
    assert_non_null(strstr(text, "100%"));
    s = PROGRESS_STATE_NONE;
    s.bytes = 7;
    progress_text("x\033[2Jy", &s, -1, -1, 80, text, sizeof text);
    assert_string_equal(text, "x [2Jy  7 B"); /* no total: no bar, no lies */
}

/* --- Text ------------------------------------------------------------------------------------------ */

static void check_line(const char *text, unsigned columns, const char *expect, unsigned used)
{
    char out[64];
    unsigned got = term_line(text, strlen(text), columns, out, sizeof out);

    if (strcmp(out, expect) != 0 || got != used)
        fail_msg("\"%s\" at %u: \"%s\" (%u), not \"%s\" (%u)", text, columns, out, got, expect, used);
}

static void text_is_cut_between_characters(void **state)
{
    char out[16], piece[8];

    (void)state;
    check_line("plain", 0, "plain", 5);
    check_line("plain", 5, "plain", 5);
    check_line("plain", 4, "pla…", 4);
    check_line("plain", 1, "…", 1);
    check_line("naïve café", 6, "naïve…", 6);
    check_line("日本語", 6, "日本語", 6); /* two columns each */
    check_line("日本語", 5, "日本…", 5);
    check_line("日本語", 4, "日…", 3);
    check_line("  a \t\n\r b  ", 0, "a b", 3);
    check_line("a\033[31mred\x07", 0, "a [31mred", 9);
    check_line("a\xc2\x9b" "31m", 0, "a 31m", 5); /* C1: the eight-bit escape */
    check_line("a\xe2\x80\xae" "b", 0, "a b", 3);   /* right-to-left override */
    check_line("a\xff\xc3", 0, "a\xef\xbf\xbd\xef\xbf\xbd", 3);
    check_line("\xed\xa0\x80", 0, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 3); /* a surrogate */
    check_line("\xc0\xaf", 0, "\xef\xbf\xbd\xef\xbf\xbd", 2);                /* overlong */
    check_line("e\xcc\x81x", 2, "e\xcc\x81x", 2);                            /* combining */
    check_line("", 5, "", 0);
    check_line("\xf0\x9f\x98\x80", 2, "\xf0\x9f\x98\x80", 2);
    /* a small buffer cuts as a narrow terminal does */
    assert_true(term_line("ääääääääääääää", 28, 0, out, sizeof out) < 14);
    assert_true(strlen(out) < sizeof out);
    assert_int_equal(strcmp(out + strlen(out) - 3, "…"), 0);
    assert_int_equal(term_line("x", 1, 0, piece, 4), 0);
}

static void numbers_for_people(void **state)
{
    char b[32];

    (void)state;
    assert_string_equal(out_count(0, b), "0");
    assert_string_equal(out_count(999, b), "999");
    assert_string_equal(out_count(1000, b), "1,000");
    assert_string_equal(out_count(UINT64_MAX, b), "18,446,744,073,709,551,615");
    assert_string_equal(out_bytes(0, b), "0 B");
    assert_string_equal(out_bytes(1023, b), "1023 B");
    assert_string_equal(out_bytes(1024, b), "1.0 KiB");
    assert_string_equal(out_bytes(1024 * 1024 - 1, b), "1.0 MiB");
    assert_string_equal(out_bytes(150.0 * 1024 * 1024, b), "150 MiB");
    assert_string_equal(out_bytes(1e18, b), "888 PiB");
    assert_string_equal(out_duration(0, b), "0:00");
    assert_string_equal(out_duration(59.6, b), "1:00");
    assert_string_equal(out_duration(3725, b), "1:02:05");
    assert_string_equal(out_duration(-1, b), "--:--");
    assert_string_equal(out_duration((double)NAN, b), "--:--");
    assert_string_equal(out_duration((double)INFINITY, b), "--:--");
}

/* --- JSON Lines ------------------------------------------------------------------------------------ */

static char path[64];

static int make_path(void **state)
{
    int fd;

    (void)state;
    memcpy(path, "/tmp/asc-test-XXXXXX", 21);
    fd = mkstemp(path);
    close(fd);
    return fd < 0;
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_text(const char *text, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void lines_come_in_groups(void **state)
{
    struct lines l;
    char why[256], *block;
    size_t len;
    uint64_t count;

    (void)state;
    write_text("{\"a\":1}\n{\"b\":2}\n{\"c\":3}", 23); /* the last one is not ended */
    assert_true(lines_open(&l, path, why, sizeof why));
    assert_true(lines_count(&l, &count, why, sizeof why));
    assert_int_equal(count, 3);
    assert_true(lines_take(&l, 2, &block, &len, why, sizeof why));
    assert_string_equal(block, "{\"a\":1}\n{\"b\":2}\n");
    free(block);
    assert_true(lines_take(&l, 1, &block, &len, why, sizeof why));
    assert_string_equal(block, "{\"c\":3}\n");
    free(block);
    assert_false(lines_take(&l, 1, &block, &len, why, sizeof why));
    assert_non_null(strstr(why, "ends after 3 lines"));
    lines_close(&l);
}

/* Many lines of many lengths, over the borders of reads and groups. */
static void long_files_come_whole(void **state)
{
    enum { LINES = 20000 };
    struct lines l;
    char why[256], *block, *text = malloc(LINES * 400), *at = text;
    size_t len, total;
    uint64_t count, seen = 0;

    (void)state;
    for (unsigned i = 0; i < LINES; i++)
        at += sprintf(at, "{\"id\":\"%u\",\"text\":\"%.*s\"}\n", i, (int)(i * 7919 % 300),
                      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    total = (size_t)(at - text);
    write_text(text, total);
    assert_true(lines_open(&l, path, why, sizeof why));
    assert_true(lines_count(&l, &count, why, sizeof why));
    assert_int_equal(count, LINES);
    at = text;
    while (seen < LINES) {
        uint64_t take = 1 + seen % 777;

        take = take < LINES - seen ? take : LINES - seen;
        assert_true(lines_take(&l, take, &block, &len, why, sizeof why));
        assert_memory_equal(block, at, len);
        at += len;
        seen += take;
        free(block);
    }
    assert_int_equal(at - text, total);
    lines_close(&l);
    free(text);
}

static void bad_lines_are_named(void **state)
{
    struct lines l;
    char why[256];
    uint64_t count;
    char *big = malloc(LINES_LINE_MAX + 16);

    (void)state;
    write_text("{}\n\n{}\n", 7);
    assert_true(lines_open(&l, path, why, sizeof why));
    assert_false(lines_count(&l, &count, why, sizeof why));
    assert_non_null(strstr(why, "line 2 is empty"));
    lines_close(&l);

    memset(big, 'x', LINES_LINE_MAX + 16);
    write_text(big, LINES_LINE_MAX + 16);
    assert_true(lines_open(&l, path, why, sizeof why));
    assert_false(lines_count(&l, &count, why, sizeof why));
    assert_non_null(strstr(why, "line 1 has more than"));
    lines_close(&l);
    free(big);

    write_text("", 0);
    assert_true(lines_open(&l, path, why, sizeof why));
    assert_true(lines_count(&l, &count, why, sizeof why));
    assert_int_equal(count, 0);
    lines_close(&l);
    assert_false(lines_open(&l, "/tmp", why, sizeof why));
    assert_false(lines_open(&l, "/tmp/absent-asc-file", why, sizeof why));
}

/* --- The command line ------------------------------------------------------------------------------ */

static int run_args(struct cli *cli, bool *flag, const char **text, uint64_t *n, int *count,
                    char **argv)
{
    const struct arg list[] = {{"--flag", 0, ARG_FLAG, flag, 0, 0, NULL, ""},
                               {"--text", 't', ARG_TEXT, text, 0, 0, "T", ""},
                               {"--count", 'k', ARG_COUNT, n, 1, 10, "N", ""},
                               {0}};
    const struct args args = {"verb A [B]", "", list, 1, 2};
    int argc = 0;

    while (argv[argc])
        argc++;
    return args_parse(cli, &args, argc, argv, count);
}

static void options_stand_anywhere(void **state)
{
    struct cli cli = {0};
    bool flag = false;
    const char *text = NULL;
    uint64_t n = 0;
    int count = 0;
    char *argv[] = {(char[]){"verb"},    (char[]){"-k7"},  (char[]){"a"}, (char[]){"--text=x"},
                    (char[]){"--flag"},  (char[]){"--json"}, (char[]){"-s"}, (char[]){"unix:y"},
                    (char[]){"--"},      (char[]){"--b"},  NULL};

    (void)state;
    assert_int_equal(run_args(&cli, &flag, &text, &n, &count, argv), -1);
    assert_int_equal(count, 2);
    assert_string_equal(argv[1], "a");
    assert_string_equal(argv[2], "--b");
    assert_true(flag && cli.json);
    assert_string_equal(text, "x");
    assert_string_equal(cli.server, "unix:y");
    assert_int_equal(n, 7);
}

static void bad_options_are_refused(void **state)
{
    static const char *const bad[][3] = {
        {"a", "--none", NULL}, {"a", "--count=0", NULL},  {"a", "--count=11", NULL},
        {"a", "-k", NULL},     {"a", "--count=", NULL},   {"a", "--count=-1", NULL},
        {"a", "-k1x", NULL},   {"a", "--flag=1", NULL},   {"a", "--fla", NULL},
        {NULL, NULL, NULL},    {"a", "--count=99999999999999999999", NULL}};
    int err = dup(STDERR_FILENO), none = open("/dev/null", O_WRONLY);

    (void)state;
    dup2(none, STDERR_FILENO);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cli cli = {0};
        bool flag = false;
        const char *text = NULL;
        uint64_t n = 0;
        int count = 0, rc;
        char verb[] = "verb", one[32] = "", two[64] = "", *argv[] = {verb, NULL, NULL, NULL};

        for (int j = 0; j < 2 && bad[i][j]; j++) {
            argv[1 + j] = j ? two : one;
            snprintf(argv[1 + j], j ? sizeof two : sizeof one, "%s", bad[i][j]);
        }
        rc = run_args(&cli, &flag, &text, &n, &count, argv);
        if (rc != EXIT_USAGE) {
            dup2(err, STDERR_FILENO);
            fail_msg("case %zu: %d", i, rc);
        }
    }
    dup2(err, STDERR_FILENO);
    close(err);
    close(none);
}

static int set_locale(void **state)
{
    (void)state;
    term_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_rate_is_found),
        cmocka_unit_test(a_new_rate_is_followed),
        cmocka_unit_test(time_and_amounts_may_stand_or_go_back),
        cmocka_unit_test(the_bar_fits),
        cmocka_unit_test_setup(text_is_cut_between_characters, set_locale),
        cmocka_unit_test(numbers_for_people),
        cmocka_unit_test_setup_teardown(lines_come_in_groups, make_path, drop_path),
        cmocka_unit_test_setup_teardown(long_files_come_whole, make_path, drop_path),
        cmocka_unit_test_setup_teardown(bad_lines_are_named, make_path, drop_path),
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(bad_options_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
