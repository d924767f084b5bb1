/* test_cache.c - the cache alone: who builds, who waits, what is given up, what is forgotten. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "index/cache.h"

static _Atomic int built, destroyed;

static void destroy(void *thing)
{
    free(thing);
    destroyed++;
}

static void *build(uint64_t key)
{
    uint64_t *thing = malloc(sizeof *thing);

    assert_non_null(thing);
    *thing = key;
    built++;
    return thing;
}

/* Takes `key`, building it when asked to; the item, or NULL when there is no room. */
static struct cache_item *take(struct cache *c, uint64_t key, uint64_t bytes)
{
    struct cache_item *item;

    if (cache_take(c, cache_round(c), key, bytes, &item) == CACHE_BUILD)
        cache_built(c, item, build(key));
    if (item)
        assert_true(*(uint64_t *)cache_thing(item) == key);
    return item;
}

static struct cache *fresh(uint64_t budget)
{
    built = destroyed = 0;
    return cache_new(budget, destroy);
}

static void a_thing_is_built_once(void **state)
{
    struct cache *c = fresh(100);
    struct cache_item *a, *b;

    (void)state;
    a = take(c, 7, 40);
    b = take(c, 7, 40);
    assert_ptr_equal(a, b);
    assert_int_equal(built, 1);
    assert_int_equal(cache_bytes(c), 40);
    cache_release(c, a);
    cache_release(c, b);
    cache_free(c);
    assert_int_equal(destroyed, 1);
}

/* Recent things stay and the newcomer does without; old ones go, least recently used first; pinned
 * ones never. */
static void room_is_made_of_what_is_old(void **state)
{
    struct cache *c = fresh(100);
    struct cache_item *pinned = take(c, 1, 40);

    (void)state;
    cache_release(c, take(c, 2, 40));
    assert_null(take(c, 3, 40));
    assert_null(take(c, 4, 101));
    for (int i = 0; i <= CACHE_RECENT; i++)
        cache_round(c);
    assert_null(take(c, 3, 70)); /* not to be had: 1 is pinned. So nothing was given up for it */
    assert_int_equal(destroyed, 0);
    cache_release(c, take(c, 3, 40)); /* takes the place of 2 */
    assert_int_equal(destroyed, 1);
    assert_int_equal(cache_bytes(c), 80);
    cache_release(c, take(c, 1, 40)); /* still there */
    assert_int_equal(built, 3);
    cache_release(c, pinned);
    for (int i = 0; i <= CACHE_RECENT; i++)
        cache_round(c);
    cache_release(c, take(c, 3, 40)); /* used again: now 1 is the oldest */
    cache_release(c, take(c, 5, 60));
    assert_int_equal(cache_bytes(c), 100);
    cache_release(c, take(c, 3, 40));
    assert_int_equal(built, 4);
    cache_free(c);
    assert_int_equal(destroyed, built);
}

static void what_is_forgotten_lives_while_it_is_pinned(void **state)
{
    struct cache *c = fresh(100);
    struct cache_item *a = take(c, 1, 40), *b;

    (void)state;
    cache_forget(c, 1);
    cache_forget(c, 99);
    assert_int_equal(cache_bytes(c), 0);
    assert_int_equal(destroyed, 0);
    assert_true(*(uint64_t *)cache_thing(a) == 1);
    b = take(c, 1, 40); /* a new one */
    assert_ptr_not_equal(a, b);
    cache_release(c, a);
    assert_int_equal(destroyed, 1);
    cache_release(c, b);
    cache_forget(c, 1);
    assert_int_equal(destroyed, 2);
    cache_free(c);
}

static void a_failed_building_leaves_nothing(void **state)
{
    struct cache *c = fresh(100);
    struct cache_item *item;

    (void)state;
    assert_int_equal(cache_take(c, 1, 5, 60, &item), CACHE_BUILD);
    assert_int_equal(cache_bytes(c), 60);
    cache_built(c, item, NULL);
    assert_int_equal(cache_bytes(c), 0);
    assert_int_equal(cache_take(c, 1, 5, 60, &item), CACHE_BUILD);
    cache_forget(c, 5); /* forgotten while it is being built, and then failing */
    cache_built(c, item, NULL);
    assert_int_equal(cache_take(c, 1, 5, 60, &item), CACHE_BUILD);
    cache_forget(c, 5); /* forgotten while it is being built, and then done */
    cache_built(c, item, build(5));
    assert_int_equal(cache_bytes(c), 0);
    cache_release(c, item);
    assert_int_equal(destroyed, 1);
    cache_free(c);
}

/* Eight threads want one thing; the first two buildings fail slowly, then one succeeds: each waiter
 * gets the thing or its turn to build, and it is built once. */
struct waiter {
    pthread_t thread;
    struct cache *c;
    _Atomic int *failures;
    int got;
};

static void *wait_for(void *arg)
{
    struct waiter *w = arg;
    struct cache_item *item;

    while (!w->got)
        switch (cache_take(w->c, 1, 3, 10, &item)) {
        case CACHE_BUILD:
            usleep(2000);
            if ((*w->failures)-- > 0) {
                cache_built(w->c, item, NULL);
                break;
            }
            cache_built(w->c, item, build(3)); /* fall through */
        case CACHE_READY:
            w->got = *(uint64_t *)cache_thing(item) == 3;
            cache_release(w->c, item);
            break;
        case CACHE_NO_ROOM:
            return NULL;
        }
    return NULL;
}

static void waiters_get_the_thing_or_their_turn(void **state)
{
    enum { WAITERS = 8 };
    struct cache *c = fresh(10);
    _Atomic int failures = 2;
    struct waiter w[WAITERS];

    (void)state;
    for (int i = 0; i < WAITERS; i++) {
        w[i] = (struct waiter){.c = c, .failures = &failures};
        assert_int_equal(pthread_create(&w[i].thread, NULL, wait_for, &w[i]), 0);
    }
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(w[i].got);
    }
    assert_int_equal(built, 1);
    cache_free(c);
    assert_int_equal(destroyed, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thing_is_built_once),
        cmocka_unit_test(room_is_made_of_what_is_old),
        cmocka_unit_test(what_is_forgotten_lives_while_it_is_pinned),
        cmocka_unit_test(a_failed_building_leaves_nothing),
        cmocka_unit_test(waiters_get_the_thing_or_their_turn),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
