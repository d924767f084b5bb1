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

static struct auth_caller who;

static int try_key(struct auth *a, const char *key, unsigned *scopes)
{
    char header[192];
    int code;

    snprintf(header, sizeof header, "Bearer %s", key);
    err_clear(&e);
    code = auth_check(a, header, &who, &e);
    *scopes = who.scopes;
    return code;
}

static int make(unsigned scopes, const char *label, struct auth_key *out, char *text)
{
    struct auth_grant grant = {.scopes = scopes, .label = label};

    err_clear(&e);
    return auth_make(&grant, out, text, &e);
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
    char text[AUTH_TEXT_CHARS + 1], wrong[160];
    unsigned scopes;

    (void)state;
    assert_int_equal(make(SCOPE_READ, "r", &k, text), 0);
    assert_int_equal(try_key(a, text, &scopes), ERR_UNAUTHORIZED); /* not yet published */
    auth_publish(a, &k);
    assert_int_equal(try_key(a, text, &scopes), 0);
    assert_int_equal(scopes, SCOPE_READ);
    snprintf(wrong, sizeof wrong, "bearer   %s", text);
    assert_int_equal(auth_check(a, wrong, &who, &e), 0);
    assert_string_equal(who.id, k.id);
    assert_int_equal(auth_check(a, NULL, &who, &e), ERR_UNAUTHORIZED);
    assert_int_equal(auth_check(a, "", &who, &e), ERR_UNAUTHORIZED);
    assert_int_equal(auth_check(a, text, &who, &e), ERR_UNAUTHORIZED);
    assert_int_equal(auth_check(a, "Basic eDp5", &who, &e), ERR_UNAUTHORIZED);
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
        assert_int_equal(make(i ? SCOPE_READ : admin, "", &keys[i], text[i]), 0);
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
    assert_int_equal(make(SCOPE_READ, label, &k, text), ERR_INVALID);
    assert_string_equal(e.field, "label");
    label[AUTH_LABEL_MAX] = '\0';
    assert_int_equal(make(SCOPE_READ, label, &k, text), 0);
    assert_int_equal(make(SCOPE_READ, "a\nb", &k, text), ERR_INVALID);
    assert_int_equal(make(SCOPE_READ, "\xff", &k, text), ERR_BAD_UTF8);
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
    assert_int_equal(make(nested, "notebook \xc3\xa9", &k, text), 0);
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

/* A key that ended is told so, and only who has the secret is told. */
static void test_expiry(void **state)
{
    struct auth *a = auth_new();
    struct auth_grant grant = {.scopes = SCOPE_READ, .label = "", .lifetime_s = 3600};
    struct auth_key k;
    char text[AUTH_TEXT_CHARS + 1];
    unsigned scopes;

    (void)state;
    assert_int_equal(auth_make(&grant, &k, text, &e), 0);
    assert_int_equal(k.expires, k.created + 3600);
    auth_publish(a, &k);
    assert_int_equal(try_key(a, text, &scopes), 0);
    k.expires = k.created; /* the second in which it ends is not its own any more */
    auth_publish(a, &k);
    assert_int_equal(try_key(a, text, &scopes), ERR_KEY_EXPIRED);
    assert_int_equal(scopes, 0);
    assert_string_equal(who.id, k.id);
    assert_non_null(strstr(e.text, k.id));
    text[AUTH_TEXT_CHARS - 1] = text[AUTH_TEXT_CHARS - 1] == '0' ? '1' : '0';
    assert_int_equal(try_key(a, text, &scopes), ERR_UNAUTHORIZED);
    auth_free(a);
}

static unsigned admitted(struct auth *a, const char *text, unsigned tries)
{
    unsigned scopes, n = 0;

    for (unsigned i = 0; i < tries; i++)
        n += try_key(a, text, &scopes) == 0;
    return n;
}

static void test_rate(void **state)
{
    struct auth *a = auth_new();
    struct auth_grant grant = {.scopes = SCOPE_READ, .label = "", .rate = 5};
    struct auth_key own, others;
    char text[AUTH_TEXT_CHARS + 1], other[AUTH_TEXT_CHARS + 1];
    unsigned scopes;

    (void)state;
    assert_int_equal(auth_make(&grant, &own, text, &e), 0);
    assert_int_equal(make(SCOPE_READ, "", &others, other), 0);
    auth_publish(a, &own);
    auth_publish(a, &others);
    assert_int_equal(admitted(a, other, 1000), 1000); /* no limit by default */
    assert_in_range(admitted(a, text, 100), 10, 11);  /* twice its rate at once */
    assert_int_equal(try_key(a, text, &scopes), ERR_RATE_LIMITED);
    assert_int_equal(who.wait_s, 1);
    usleep(450 * 1000); /* two more, whatever the machine does meanwhile */
    assert_true(admitted(a, text, 100) >= 2);

    auth_set_rate(a, 1, 3);
    assert_in_range(admitted(a, other, 100), 3, 4);
    assert_int_equal(try_key(a, other, &scopes), ERR_RATE_LIMITED);
    auth_free(a);
}

static void test_rotate(void **state)
{
    struct store *s = open_store();
    struct auth *a = auth_new();
    struct auth_grant grant = {.scopes = SCOPE_READ, .label = "dash", .corpus = "c",
                               .lifetime_s = 1000, .rate = 7};
    struct auth_key k, fresh, old, found;
    char text[AUTH_TEXT_CHARS + 1], next[128], admin[128];
    unsigned scopes;

    (void)state;
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(auth_make(&grant, &k, text, &e), 0);
    assert_int_equal(auth_save(a, s, &k, &e), 0);
    auth_publish(a, &k);
    assert_int_equal(auth_rotate(a, s, k.id, 100, &fresh, &old, next, &e), 0);
    assert_string_equal(old.id, k.id);
    assert_in_range(old.expires, k.created + 100, k.created + 102);
    assert_int_equal(fresh.expires - fresh.created, 1000);
    assert_int_equal(try_key(a, text, &scopes), 0);
    assert_int_equal(try_key(a, next, &scopes), 0);
    assert_string_equal(who.corpus, "c");
    assert_string_equal(who.label, "dash");
    /* without overlap the old one is dead at once; a life is never made longer */
    assert_int_equal(auth_rotate(a, s, k.id, 5000, &fresh, &old, next, &e), 0);
    assert_in_range(old.expires, k.created + 100, k.created + 102);
    assert_int_equal(auth_rotate(a, s, k.id, 0, &fresh, &old, next, &e), 0);
    assert_int_equal(try_key(a, text, &scopes), ERR_KEY_EXPIRED);
    assert_int_equal(auth_rotate(a, s, k.id, 0, &fresh, &old, next, &e), ERR_CONFLICT);
    assert_int_equal(auth_rotate(a, s, "0000", 0, &fresh, &old, next, &e), ERR_UNKNOWN_KEY);

    /* the key of the file: the file has the new one, the old one lives on for the overlap */
    read_key(admin);
    assert_int_equal(try_key(a, admin, &scopes), 0);
    snprintf(k.id, sizeof k.id, "%s", who.id);
    assert_int_equal(auth_rotate(a, s, k.id, 60, &fresh, &old, next, &e), 0);
    assert_int_equal(fresh.expires, 0);
    assert_int_equal(try_key(a, admin, &scopes), 0);
    read_key(admin);
    assert_string_equal(admin, next);
    /* the last that lasts */
    assert_int_equal(auth_withdraw(a, fresh.id, &found, &e), ERR_CONFLICT);
    auth_free(a);

    a = auth_new(); /* all of it after a restart, and no further admin key is made */
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(try_key(a, text, &scopes), ERR_KEY_EXPIRED);
    assert_int_equal(try_key(a, admin, &scopes), 0);
    assert_true(auth_find(a, old.id, &found));
    assert_int_equal(found.expires, old.expires);
    read_key(next);
    assert_string_equal(admin, next);
    auth_free(a);
    store_close(s);
}

static void test_last_used(void **state)
{
    struct store *s = open_store();
    struct auth *a = auth_new();
    struct auth_key k, found;
    char text[AUTH_TEXT_CHARS + 1];
    unsigned scopes;
    int64_t used;

    (void)state;
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(make(SCOPE_READ, "", &k, text), 0);
    assert_int_equal(auth_save(a, s, &k, &e), 0);
    auth_publish(a, &k);
    assert_true(auth_find(a, k.id, &found));
    assert_int_equal(found.used, 0);
    assert_int_equal(try_key(a, text, &scopes), 0);
    assert_true(auth_find(a, k.id, &found));
    used = found.used;
    assert_true(used >= k.created);
    assert_false(auth_used_due(a)); /* not at each use */
    assert_int_equal(auth_save_used(a, s, &e), 0);
    auth_free(a);
    a = auth_new();
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_true(auth_find(a, k.id, &found));
    assert_int_equal(found.used, used);
    auth_free(a);
    store_close(s);
}

/* Records as version 0.1 wrote them are read; what nobody wrote is refused by number. */
static void test_old_records(void **state)
{
    struct store *s = open_store();
    struct auth *a = auth_new();
    struct auth_key k, found;
    char text[AUTH_TEXT_CHARS + 1];
    unsigned char record[128] = {1, SCOPE_READ};
    unsigned scopes;

    (void)state;
    assert_int_equal(make(SCOPE_READ, "old", &k, text), 0);
    bytes_put_le64(record + 2, 1234567);
    memcpy(record + 10, k.hash, AUTH_HASH_BYTES);
    memcpy(record + 42, "old", 3);
    assert_int_equal(store_record_put(s, STORE_KEYS, k.id, AUTH_ID_CHARS, record, 45, &e), 0);
    assert_int_equal(auth_start(a, s, false, &e), 0);
    assert_int_equal(try_key(a, text, &scopes), 0);
    assert_true(auth_find(a, k.id, &found));
    assert_int_equal(found.created, 1234567);
    assert_int_equal(found.expires | found.rate, 0);
    assert_string_equal(found.label, "old");
    auth_free(a);
    for (int i = 0; i < 3; i++) {
        static const unsigned char version[] = {0, 2, 3};
        record[0] = version[i]; /* as version 2 it is too short */
        assert_int_equal(store_record_put(s, STORE_KEYS, k.id, AUTH_ID_CHARS, record, 45, &e), 0);
        a = auth_new();
        assert_int_equal(auth_start(a, s, false, &e), ERR_CORRUPT);
        auth_free(a);
    }
    assert_int_equal(auth_erase(s, k.id, &e), 0);
    store_close(s);
}

/* Keys that ended long ago do not fill the list. */
static void test_forgotten(void **state)
{
    struct store *s = open_store();
    struct auth *a = auth_new();
    struct auth_key k, found;
    char text[AUTH_TEXT_CHARS + 1];

    (void)state;
    assert_int_equal(auth_start(a, s, false, &e), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(make(SCOPE_READ, "", &k, text), 0);
        k.expires = k.created - (i ? 29 : 31) * 86400;
        assert_int_equal(auth_save(a, s, &k, &e), 0);
        auth_free(a);
        a = auth_new();
        assert_int_equal(auth_start(a, s, false, &e), 0);
        assert_int_equal(auth_find(a, k.id, &found), i);
    }
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
        cmocka_unit_test(test_records),  cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_rate),     cmocka_unit_test(test_rotate),
        cmocka_unit_test(test_last_used), cmocka_unit_test(test_old_records),
        cmocka_unit_test(test_forgotten),
    };
    int rc;

    if (!mkdtemp(dir))
        return 1;
    snprintf(store_path, sizeof store_path, "%s/store", dir);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(dir, gone, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}
