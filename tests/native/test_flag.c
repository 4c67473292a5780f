/* A flag lets go everybody who waits, even one that is cleared at once; a number is summed exactly. */
#include <sched.h>
#include <unistd.h>

#include "flag.h"
#include "number.h"
#include "support.h"

#define THREADS 4
#define ROUNDS 5000

static struct shm_segment segment;
static uint32_t spin;
static shm_atomic32 waiting, gone;
static uint64_t written; /* plain: the flag, or the number, is what orders it */

static struct shm_flag *the_flag(void) { return (struct shm_flag *)shm_body(&segment); }
static struct shm_number *the_number(void) { return (struct shm_number *)(the_flag() + 1); }

static void renew(void)
{
    memset(the_flag(), 0, sizeof(struct shm_flag) + sizeof(struct shm_number));
    store_relaxed(&waiting, 0);
    store_relaxed(&gone, 0);
    written = 0;
}

static void wait_until_set(uint32_t seen, struct shm_patience *patience, uint64_t interval)
{
    struct shm_wait wait;
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (!shm_flag_was_set(the_flag(), seen)) {
        CHECK(shm_flag_wait(the_flag(), seen, patience, &wait) == SHM_OK);
        CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
    }
}

static void reach(shm_atomic32 *count, uint32_t value)
{
    while (load_acquire(count) != value)
        usleep(1);
}

/* Each round: all take what they see, wait, and go; the last one sets, and clears at once. */
static void *wait_or_set(void *number)
{
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    for (uint32_t round = 1; round <= ROUNDS / 10; round++) {
        if (number) {
            uint32_t seen = shm_flag_load(the_flag());
            fetch_add(&waiting, 1);
            wait_until_set(seen, &patience, WITHOUT_RECHECK);
            CHECK(written >= round);
            fetch_add(&gone, 1);
            reach(&gone, round * THREADS);
        } else {
            reach(&waiting, round * (THREADS - 1));
            written = round;
            shm_flag_set(the_flag());
            shm_flag_clear(the_flag());
            fetch_add(&gone, 1);
            reach(&gone, round * THREADS);
        }
    }
    return NULL;
}

static void one_that_is_cleared_at_once_lets_all_go(uint32_t ns)
{
    spin = ns;
    renew();
    run_threads(THREADS, wait_or_set);
}

/* One sets, one clears and then looks for work: it is there, or the flag is set again.  The flag is
 * often set still when it is set. */
static shm_atomic64 work;

static void *signal_or_look(void *number)
{
    struct shm_patience patience;
    uint64_t seen = 0;
    shm_patience_init(&patience, spin);
    for (uint64_t i = 1; !number && i <= 20 * ROUNDS; i++) {
        store_relaxed(&work, i);
        shm_flag_set(the_flag());
    }
    while (number && seen < 20 * ROUNDS) {
        wait_until_set(shm_flag_load(the_flag()), &patience, WITHOUT_RECHECK);
        shm_flag_clear(the_flag());
        seen = load_relaxed(&work);
    }
    return NULL;
}

static void who_clears_and_looks_misses_nothing(uint32_t ns)
{
    spin = ns;
    renew();
    store_relaxed(&work, 0);
    run_threads(2, signal_or_look);
}

/* The same, step by step: flag set, both go off at once. */
static shm_atomic64 start;
static uint64_t found;

static void start_from(uint64_t value)
{
    for (int looks = 0; load_acquire(&start) < value; looks++)
        if (looks > 1000)
            sched_yield();
}

static void *meet_at_a_set_flag(void *number)
{
    for (uint64_t i = 1; i <= 10 * ROUNDS; i++) {
        fetch_add(&start, 1);
        start_from(4 * i - 2);
        if (number) {
            store_relaxed(&work, i);
            shm_flag_set(the_flag());
        } else {
            shm_flag_clear(the_flag());
            found = load_relaxed(&work);
        }
        fetch_add(&start, 1);
        start_from(4 * i);
        if (!number)
            CHECK(found == i || shm_flag_load(the_flag()) & SHM_FLAG_SET);
        if (!number)
            shm_flag_set(the_flag());
    }
    return NULL;
}

static void a_set_flag_that_is_set_publishes(void)
{
    renew();
    store_relaxed(&start, 0);
    store_relaxed(&work, 0);
    shm_flag_set(the_flag());
    run_threads(2, meet_at_a_set_flag);
}

/* Killed between setting it and waking. */
static void set_without_waking(void)
{
    fetch_add(&the_flag()->word, SHM_FLAG_TIME | SHM_FLAG_SET);
    store_release(&the_number()->value, 7);
}

static void *sleep_or_be_killed(void *number)
{
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
    if (number) {
        wait_until_set(0, &patience, SHM_RECHECK_MIN);
        while (shm_number_load(the_number()) == 0)
            CHECK(shm_number_wait(the_number(), 0, &patience, &wait) == SHM_OK);
    } else {
        while (!shm_event_has_sleepers(&the_flag()->event))
            usleep(100);
        kill_player(start_player(&segment, set_without_waking, NULL));
    }
    return NULL;
}

static void a_sleeper_outlives_the_one_who_set_it(void)
{
    renew();
    run_threads(2, sleep_or_be_killed);
}

static void a_wait_has_an_end(void)
{
    struct shm_patience patience;
    struct shm_wait wait;
    renew();
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, shm_now() + 1000000, SHM_RECHECK_MIN);
    CHECK(shm_flag_wait(the_flag(), 0, &patience, &wait) == SHM_TIMED_OUT);
    CHECK(shm_number_wait(the_number(), 0, &patience, &wait) == SHM_TIMED_OUT);
    CHECK(!shm_flag_spin(the_flag(), 0, 1000) && !shm_number_spin(the_number(), 0, 1000));
    shm_flag_set(the_flag());
    shm_flag_clear(the_flag());
    CHECK(shm_flag_wait(the_flag(), 0, &patience, &wait) == SHM_OK);
    CHECK(!(shm_flag_load(the_flag()) & SHM_FLAG_SET));
    CHECK(shm_flag_was_set(the_flag(), 0));
}

/* --- the number --- */

static void *add_one_by_one(void *number)
{
    uint64_t after, before = 0;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(shm_number_add(the_number(), (intptr_t)number % 2 ? 3 : -1, true, &after));
        while (!shm_number_compare_exchange(the_number(), before, before + 1))
            before = shm_number_load(the_number());
    }
    return NULL;
}

static void no_addition_is_lost(void)
{
    renew();
    run_threads(THREADS, add_one_by_one);
    CHECK(shm_number_load(the_number()) == THREADS * ROUNDS * 2ull);
}

/* One stores odd numbers, one even ones, each when he has seen the other's. */
static void *answer(void *number)
{
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, spin);
    for (uint64_t mine = (uint64_t)(intptr_t)number; mine < 2 * ROUNDS; mine += 2) {
        shm_wait_init(&wait, SHM_NEVER, WITHOUT_RECHECK);
        uint64_t seen;
        while ((seen = shm_number_load(the_number())) != mine) {
            CHECK(shm_number_wait(the_number(), seen, &patience, &wait) == SHM_OK);
            CHECK(wait.interval == WITHOUT_RECHECK);
        }
        CHECK(written == mine);
        written = mine + 1;
        if (mine % 3)
            shm_number_store(the_number(), mine + 1);
        else
            CHECK(shm_number_exchange(the_number(), mine + 1) == mine);
    }
    return NULL;
}

static void each_change_wakes(uint32_t ns)
{
    spin = ns;
    renew();
    run_threads(2, answer);
}

static void a_sum_out_of_range_changes_nothing(void)
{
    uint64_t after;
    renew();
    CHECK(!shm_number_add(the_number(), -1, false, &after));
    CHECK(shm_number_add(the_number(), -1, true, &after) && after == UINT64_MAX);
    CHECK(!shm_number_add(the_number(), 1, false, &after));
    CHECK(shm_number_add(the_number(), INT64_MIN, false, &after) && after == INT64_MAX);
    CHECK(!shm_number_add(the_number(), 1, true, &after));
    CHECK(shm_number_load(the_number()) == INT64_MAX);
    shm_number_store(the_number(), (uint64_t)INT64_MIN);
    CHECK(!shm_number_add(the_number(), -1, true, &after));
    CHECK(shm_number_add(the_number(), INT64_MAX, false, &after) && after == UINT64_MAX);
}

int main(void)
{
    make_segment(&segment, sizeof(struct shm_flag) + sizeof(struct shm_number), 0);
    a_wait_has_an_end();
    a_sleeper_outlives_the_one_who_set_it();
    a_sum_out_of_range_changes_nothing();
    one_that_is_cleared_at_once_lets_all_go(0);
    one_that_is_cleared_at_once_lets_all_go(SHM_SPIN_MOST);
    who_clears_and_looks_misses_nothing(0);
    who_clears_and_looks_misses_nothing(SHM_SPIN_MOST);
    a_set_flag_that_is_set_publishes();
    no_addition_is_lost();
    each_change_wakes(0);
    each_change_wakes(SHM_SPIN_MOST);
    return 0;
}
