/* test_folders.c - paths in errors: what of them a client sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "server/folders.h"
#include "storage/base/err.h"

static void test_hide(void **state)
{
    static const struct {
        const char *store, *text, *shown;
    } cases[] = {
        {"/srv/s", "sync of /srv/s/shards/000001: Input/output error",
         "sync of shards/000001: Input/output error"},
        {"/srv/s/", "/srv/s/ledger/data.mdb: page 7", "ledger/data.mdb: page 7"},
        {"/srv/s", "/srv/s//ledger", "ledger"},
        {"/srv/s", "/srv/s: No space left on device", "s: No space left on device"},
        {"/srv/store", "/srv/store: No space left on device", "the store: No space left on device"},
        {"/srv/store", "sync of /srv/store", "sync of the store"},
        {"/srv/my store", "\"/srv/my store/LOCK\" (/srv/my store)", "\"LOCK\" (the store)"},
        {"/srv/s", "/srv/store/x: there", "x: there"},
        {"/srv/s", "/srv/s2/x, /srv/s.old", "x, s.old"},
        {"mine", "mine/ledger: mined from mine", "ledger: mined from mine"},
        {"/srv/s", "/opt/e/run.py ended with exit code 3; its last words: File '/opt/e/lib.py'",
         "run.py ended with exit code 3; its last words: File 'lib.py'"},
        {"/srv/s", "Input/output error, 3 rows/s, a // b, / and /tmp/",
         "Input/output error, 3 rows/s, a // b, / and /tmp/"},
        {"/srv/s", "/srv", "srv"},
        {"/srv/s", "", ""},
        {"/", "/ledger/data.mdb", "data.mdb"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[ERR_TEXT_MAX];

        snprintf(text, sizeof text, "%s", cases[i].text);
        folders_hide(text, cases[i].store);
        assert_string_equal(text, cases[i].shown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hide)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
