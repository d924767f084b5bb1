/* test_auth.c - keys: their text, the check, and what a store remembers of them. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/auth.h"
#include "server/route.h"
#include "storage/store.h"

const struct route route_table[1];
const size_t route_count = 0;

static char dir[] = "/tmp/ascribe-test-auth-XXXXXX", store_path[64];
static struct err e;

static struct store *open_store(void)
{
    struct store_options o = {.create = true};
    struct store *s = NULL;

    if (store_open(store_path, &o, &s, &e))
        print_error("%s\n", e.text);
    assert_non_null(s);
    return s;
}

static void read_key(char text[128])
{
    char path[96];
    FILE *f;

    snprintf(path, sizeof path, "%s/admin.key", store_path);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, 128, f));
    fclose(f);
    text[strcspn(text, "\n")] = '\0';
}

static int try_key(struct auth *a, const char *key, unsigned *scopes)
{
    char header[192], id[AUTH_ID_CHARS + 1];

    snprintf(header, sizeof header, "Bearer %s", key);
    err_clear(&e);
    *scopes = 0;
    return auth_check(a, header, scopes, id, &e);
}

static void test_start(void **state)
{
    struct store *s = open_store();
    struct auth *a = auth_new();
    char key[128], again[128], path[96];
    struct stat st;
    unsigned scopes;

    (void)state;
    assert_int_equal(auth_start(a, s, false, &e), 0);
    read_key(key);
    assert_int_equal(strlen(key), AUTH_TEXT_CHARS);
    snprintf(path, sizeof path, "%s/admin.key", store_path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(try_key(a, key, &scopes), 0);
    assert_int_equal(scopes, SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN);
    auth_free(a);
    store_close(s);

    s = open_store(); /* the second start keeps it */
    a = auth_new();
    assert_int_equal(auth_start(a, s, false, &e), 0);
    read_key(again);
    assert_string_equal(key, again);
    assert_int_equal(try_key(a, key, &scopes), 0);
    auth_free(a);

    a = auth_new(); /* renewed: the old one is dead, now and after a restart */
    assert_int_equal(auth_start(a, s, true, &e), 0);
    read_key(again);
    assert_string_not_equal(key, again);
    assert_int_equal(try_key(a, key, &scopes), ERR_UNAUTHORIZED);
    assert_int_equal(try_key(a, again, &scopes), 0);
    auth_free(a);
    a = auth_new();
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(try_key(a, key, &scopes), ERR_UNAUTHORIZED);
    assert_int_equal(try_key(a, again, &scopes), 0);
    auth_free(a);
    store_close(s);
}

static void test_check(void **state)
{
    struct auth *a = auth_new();
    struct auth_key k;
    char text[AUTH_TEXT_CHARS + 1], wrong[160], id[AUTH_ID_CHARS + 1];
    unsigned scopes;

    (void)state;
    assert_int_equal(auth_make(SCOPE_READ, "r", &k, text, &e), 0);
    assert_int_equal(try_key(a, text, &scopes), ERR_UNAUTHORIZED); /* not yet published */
    auth_publish(a, &k);
    assert_int_equal(try_key(a, text, &scopes), 0);
    assert_int_equal(scopes, SCOPE_READ);
    snprintf(wrong, sizeof wrong, "bearer   %s", text);
    assert_int_equal(auth_check(a, wrong, &scopes, id, &e), 0);
    assert_string_equal(id, k.id);
    assert_int_equal(auth_check(a, NULL, &scopes, id, &e), ERR_UNAUTHORIZED);
    assert_int_equal(auth_check(a, "", &scopes, id, &e), ERR_UNAUTHORIZED);
    assert_int_equal(auth_check(a, text, &scopes, id, &e), ERR_UNAUTHORIZED);
    assert_int_equal(auth_check(a, "Basic eDp5", &scopes, id, &e), ERR_UNAUTHORIZED);
    for (size_t i = 0; i < AUTH_TEXT_CHARS; i++) { /* every character counts */
        snprintf(wrong, sizeof wrong, "%s", text);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        assert_int_equal(try_key(a, wrong, &scopes), ERR_UNAUTHORIZED);
    }
    snprintf(wrong, sizeof wrong, "%s0", text);
    assert_int_equal(try_key(a, wrong, &scopes), ERR_UNAUTHORIZED);
    snprintf(wrong, sizeof wrong, "%.*s", AUTH_TEXT_CHARS - 1, text);
    assert_int_equal(try_key(a, wrong, &scopes), ERR_UNAUTHORIZED);
    assert_null(strstr(e.text, text + 21)); /* a refusal never repeats the secret */
    auth_free(a);
}

static void test_withdraw(void **state)
{
    struct auth *a = auth_new();
    struct auth_key keys[40], list[40], gone;
    char text[40][AUTH_TEXT_CHARS + 1];
    unsigned admin, scopes;

    (void)state;
    auth_scopes_from_name("admin", &admin);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(auth_make(i ? SCOPE_READ : admin, "", &keys[i], text[i], &e), 0);
        auth_publish(a, &keys[i]);
    }
    assert_int_equal(auth_list(a, list, 40), 40);
    for (int i = 1; i < 40; i++)
        assert_true(strcmp(list[i - 1].id, list[i].id) < 0);
    assert_int_equal(auth_withdraw(a, keys[0].id, &gone, &e), ERR_CONFLICT);
    assert_int_equal(auth_withdraw(a, "0123456789abcdeg", &gone, &e), ERR_UNKNOWN_KEY);
    for (int i = 39; i > 0; i--) {
        assert_int_equal(auth_withdraw(a, keys[i].id, &gone, &e), 0);
        assert_string_equal(gone.id, keys[i].id);
        assert_int_equal(try_key(a, text[i], &scopes), ERR_UNAUTHORIZED);
        assert_int_equal(try_key(a, text[i / 2], &scopes), 0);
    }
    assert_int_equal(auth_list(a, NULL, 0), 1);
    auth_free(a);
}

static void test_labels(void **state)
{
    struct auth_key k;
    char text[AUTH_TEXT_CHARS + 1], label[AUTH_LABEL_MAX + 2];

    (void)state;
    memset(label, 'x', sizeof label);
    label[AUTH_LABEL_MAX + 1] = '\0';
    assert_int_equal(auth_make(SCOPE_READ, label, &k, text, &e), ERR_INVALID);
    assert_string_equal(e.field, "label");
    label[AUTH_LABEL_MAX] = '\0';
    assert_int_equal(auth_make(SCOPE_READ, label, &k, text, &e), 0);
    assert_int_equal(auth_make(SCOPE_READ, "a\nb", &k, text, &e), ERR_INVALID);
    assert_int_equal(auth_make(SCOPE_READ, "\xff", &k, text, &e), ERR_BAD_UTF8);
}

static void test_records(void **state)
{
    struct store *s = open_store();
    struct auth *a = auth_new();
    struct auth_key k, list[8];
    char text[AUTH_TEXT_CHARS + 1];
    unsigned scopes, nested;
    size_t n, found = 0;

    (void)state;
    auth_scopes_from_name("write", &nested);
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(auth_make(nested, "notebook \xc3\xa9", &k, text, &e), 0);
    assert_int_equal(auth_save(a, s, &k, &e), 0);
    auth_free(a);
    a = auth_new();
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(try_key(a, text, &scopes), 0);
    assert_int_equal(scopes, SCOPE_READ | SCOPE_WRITE);
    n = auth_list(a, list, 8);
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].id, k.id) == 0) {
            assert_string_equal(list[i].label, k.label);
            assert_int_equal(list[i].created, k.created);
            assert_int_equal(list[i].hash[0] | list[i].hash[31], 0);
            found++;
        }
    assert_int_equal(found, 1);
    assert_int_equal(auth_erase(s, k.id, &e), 0);
    assert_int_equal(auth_erase(s, k.id, &e), ERR_UNKNOWN_KEY);
    auth_free(a);
    a = auth_new();
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(try_key(a, text, &scopes), ERR_UNAUTHORIZED);
    auth_free(a);
    store_close(s);
}

static int gone(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st;
    (void)type;
    (void)f;
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),  cmocka_unit_test(test_check),
        cmocka_unit_test(test_withdraw), cmocka_unit_test(test_labels),
        cmocka_unit_test(test_records),
    };
    int rc;

    if (!mkdtemp(dir))
        return 1;
    snprintf(store_path, sizeof store_path, "%s/store", dir);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(dir, gone, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}
