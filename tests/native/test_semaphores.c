/* No unit is lost or doubled; those of the dead come back where there is a bound. */
#include <unistd.h>

#include "semaphores.h"
#include "support.h"

#define THREADS 6
#define UNITS 2u
#define ROUNDS 10000
#define SLOTS 32

static struct shm_segment segment;
static const struct shm_place futex = {0};
static uint32_t spin;
static shm_atomic32 inside;

static struct shm_semaphore *plain(void) { return (struct shm_semaphore *)shm_body(&segment); }
static struct shm_bounded *bounded(void)
{
    return (struct shm_bounded *)(shm_body(&segment) + sizeof(struct shm_semaphore));
}

static void renew(uint32_t value, uint32_t bound)
{
    memset(plain(), 0, sizeof(struct shm_semaphore));
    memset(bounded(), 0, shm_bounded_size(SLOTS));
    store_relaxed(&plain()->value, value);
    bounded()->bound = bound;
}

static void take(struct shm_patience *patience, uint64_t interval)
{
    struct shm_wait wait;
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (shm_semaphore_try(plain()) != SHM_OK) {
        CHECK(shm_semaphore_wait(plain(), patience, &wait) == SHM_OK);
        CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
    }
}

static void take_bounded(struct shm_segment *mine, struct shm_patience *patience, uint64_t interval)
{
    struct shm_wait wait;
    int status;
    shm_wait_init(&wait, SHM_NEVER, interval);
    while ((status = shm_bounded_try(mine, bounded())) != SHM_OK) {
        if (status == SHM_LOCKED)
            status = shm_lock_wait(mine, &bounded()->guard, &futex, patience, &wait);
        else
            status = shm_bounded_wait(mine, bounded(), patience, &wait);
        CHECK(status == SHM_OK);
        CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
    }
}

static void be_inside(void)
{
    CHECK(fetch_add(&inside, 1) < UNITS);
    fetch_sub(&inside, 1);
}

static void *use_plain(void *number)
{
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    for (int i = 0; i < ROUNDS; i++) {
        take(&patience, WITHOUT_RECHECK);
        be_inside();
        CHECK(shm_semaphore_release(plain()) == SHM_OK);
    }
    return number;
}

static void *use_bounded(void *number)
{
    struct shm_segment own, *mine = &own;
    struct shm_patience patience;
    bool last;
    shm_patience_init(&patience, spin);
    if ((intptr_t)number < 2)
        mine = &segment; /* two threads of one participant */
    else
        join_beside(mine, &segment);
    for (int i = 0; i < ROUNDS; i++) {
        take_bounded(mine, &patience, WITHOUT_RECHECK);
        be_inside();
        CHECK(shm_bounded_release(mine, bounded()) == SHM_OK);
    }
    if (mine == &own)
        shm_leave(mine, NULL, &last);
    return NULL;
}

static void no_unit_is_lost_or_doubled(uint32_t ns)
{
    spin = ns;
    renew(UNITS, UNITS);
    run_threads(THREADS, use_plain);
    CHECK(load_relaxed(&plain()->value) == UNITS);
    run_threads(THREADS, use_bounded);
    CHECK(shm_bounded_value(&segment, bounded()) == UNITS);
    CHECK(load_relaxed(&bounded()->guard.word) == 0);
}

/* Half give, half take, and the units go from one to the other. */
static void *give_or_take(void *number)
{
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    for (int i = 0; i < ROUNDS; i++)
        if ((intptr_t)number % 2)
            take(&patience, WITHOUT_RECHECK);
        else
            CHECK(shm_semaphore_release(plain()) == SHM_OK);
    return NULL;
}

static void each_unit_given_wakes_somebody(uint32_t ns)
{
    spin = ns;
    renew(0, 0);
    run_threads(THREADS, give_or_take);
    CHECK(load_relaxed(&plain()->value) == 0);
}

static void take_two_of_each(void)
{
    for (int i = 0; i < 2; i++) {
        CHECK(shm_semaphore_try(plain()) == SHM_OK);
        CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK);
    }
}

static void take_one(void) { CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK); }

static void what_the_dead_had_comes_back_where_there_is_a_bound(void)
{
    renew(2, 2);
    kill_player(start_player(&segment, take_two_of_each, NULL));
    CHECK(shm_semaphore_try(plain()) == SHM_NOT_NOW);
    CHECK(shm_bounded_release(&segment, bounded()) == SHM_FULL); /* back already */
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_NOT_NOW);
}

static void the_value_counts_the_dead_out(void)
{
    renew(2, 2);
    int pid = start_player(&segment, take_two_of_each, NULL);
    CHECK(shm_bounded_value(&segment, bounded()) == 0);
    kill_player(pid);
    CHECK(shm_bounded_value(&segment, bounded()) == 2);
}

static int victim;

static void *kill_the_victim(void *number)
{
    usleep(20000);
    kill_player(victim);
    return number;
}

static void *take_one_in_time(void *number)
{
    struct shm_patience patience;
    if (!number)
        return kill_the_victim(number);
    shm_patience_init(&patience, spin);
    take_bounded(&segment, &patience, SHM_RECHECK_MIN);
    return NULL;
}

/* And two sleepers, who get one each. */
static void a_sleeper_finds_the_death(uint32_t ns)
{
    spin = ns;
    renew(2, 2);
    victim = start_player(&segment, take_two_of_each, NULL);
    run_threads(3, take_one_in_time);
    CHECK(shm_bounded_value(&segment, bounded()) == 0);
}

/* Who has the slot now has not what the dead one had. */
static void the_next_in_the_slot_begins_with_nothing(void)
{
    struct shm_segment next;
    uint32_t dead;
    bool last;
    renew(2, 2);
    kill_player(start_player(&segment, take_two_of_each, &dead));
    join_in_slot_of(&next, &segment, dead);
    CHECK(shm_bounded_release(&next, bounded()) == SHM_FULL);
    CHECK(shm_bounded_try(&next, bounded()) == SHM_OK);
    CHECK(shm_bounded_value(&segment, bounded()) == 1);
    CHECK(shm_bounded_release(&next, bounded()) == SHM_OK);
    shm_leave(&next, NULL, &last);
    CHECK(shm_bounded_value(&segment, bounded()) == 2);
}

/* Who gives back another's unit does not give back a dead one's, that is back anyhow. */
static void a_unit_given_back_by_another_is_not_the_dead_ones(void)
{
    struct shm_segment other;
    bool last;
    renew(2, 2);
    kill_player(start_player(&segment, take_one, NULL));
    join_beside(&other, &segment);
    CHECK(shm_bounded_try(&other, bounded()) == SHM_OK);
    CHECK(shm_bounded_release(&segment, bounded()) == SHM_OK);
    CHECK(shm_bounded_value(&segment, bounded()) == 2);
    CHECK(shm_bounded_release(&segment, bounded()) == SHM_FULL);
    CHECK(shm_bounded_release(&other, bounded()) == SHM_FULL);
    shm_leave(&other, NULL, &last);
}

static void who_leaves_in_good_order_has_nothing_any_more(void)
{
    struct shm_segment other;
    bool last;
    renew(2, 2);
    join_beside(&other, &segment);
    CHECK(shm_bounded_try(&other, bounded()) == SHM_OK);
    CHECK(shm_bounded_value(&segment, bounded()) == 1);
    shm_leave(&other, NULL, &last);
    CHECK(shm_bounded_value(&segment, bounded()) == 2);
}

static void take_the_guard(void)
{
    CHECK(shm_lock_try(&segment, &bounded()->guard, shm_me(&segment)) == SHM_OK);
}

static void a_dead_one_at_the_guard_holds_nobody_up(void)
{
    renew(0, 1);
    int pid = start_player(&segment, take_the_guard, NULL);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_LOCKED);
    kill_player(pid);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_NOT_NOW);
}

static void no_more_than_the_most(void)
{
    renew(SHM_SEMAPHORE_MAX - 1, 1);
    CHECK(shm_semaphore_release(plain()) == SHM_OK);
    CHECK(shm_semaphore_release(plain()) == SHM_FULL);
    store_relaxed(&plain()->value, UINT32_MAX);
    CHECK(shm_semaphore_release(plain()) == SHM_FULL);
    CHECK(shm_bounded_release(&segment, bounded()) == SHM_FULL);
}

/* Words of nobody, of a slot that there is not, counts beyond all bounds. */
static void nonsense_in_the_ledger_counts_for_nothing(void)
{
    shm_ledger *ledger = (shm_ledger *)(bounded() + 1);
    renew(0, 2);
    for (uint64_t i = 0; i < SLOTS; i++)
        store_relaxed(&ledger[i], (i * 0x9E3779B97F4A7C15u) | 1);
    store_relaxed(&bounded()->slots_used, UINT32_MAX);
    CHECK(shm_bounded_value(&segment, bounded()) == 2);
    CHECK(shm_bounded_release(&segment, bounded()) == SHM_FULL);
    uint64_t mine = (uint64_t)shm_me(&segment) << 32;
    store_relaxed(&ledger[shm_slot_of(shm_me(&segment))], mine | UINT32_MAX);
    CHECK(shm_bounded_value(&segment, bounded()) == 0);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_NOT_NOW);
}

/* Takers that are killed anywhere; in the end all units are back. */
static void take_and_give_back(void)
{
    struct shm_patience patience;
    shm_patience_init(&patience, 0);
    while (true) {
        take_bounded(&segment, &patience, SHM_RECHECK_SOON);
        CHECK(fetch_add(&inside, 0) == 0);
        CHECK(shm_bounded_release(&segment, bounded()) == SHM_OK);
    }
}

static void killed_anywhere(void)
{
    enum { PLAYERS = 3, KILLS = 60 };
    int pids[PLAYERS];
    renew(0, 2);
    for (int i = 0; i < PLAYERS + KILLS; i++) {
        int *pid = &pids[i % PLAYERS];
        if (i >= PLAYERS)
            kill_player(*pid);
        CHECK((*pid = fork()) >= 0);
        if (*pid == 0) {
            alarm(360); /* after the whole test's limit: nobody waits for who is gone */
            while (shm_join(&segment, false) == SHM_LOCKED)
                ;
            take_and_give_back();
        }
        usleep((unsigned)(i * 7919 % 3000));
    }
    for (int i = 0; i < PLAYERS; i++)
        kill_player(pids[i]);
    CHECK(shm_bounded_value(&segment, bounded()) == 2);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_OK);
    CHECK(shm_bounded_try(&segment, bounded()) == SHM_NOT_NOW);
}

int main(void)
{
    make_segment(&segment, sizeof(struct shm_semaphore) + shm_bounded_size(SLOTS), 0);
    what_the_dead_had_comes_back_where_there_is_a_bound();
    the_value_counts_the_dead_out();
    a_sleeper_finds_the_death(0);
    a_sleeper_finds_the_death(SHM_SPIN_MOST);
    the_next_in_the_slot_begins_with_nothing();
    a_unit_given_back_by_another_is_not_the_dead_ones();
    who_leaves_in_good_order_has_nothing_any_more();
    a_dead_one_at_the_guard_holds_nobody_up();
    no_more_than_the_most();
    nonsense_in_the_ledger_counts_for_nothing();
    killed_anywhere();
    no_unit_is_lost_or_doubled(0);
    no_unit_is_lost_or_doubled(SHM_SPIN_MOST);
    each_unit_given_wakes_somebody(0);
    each_unit_given_wakes_somebody(SHM_SPIN_MOST);
    return 0;
}
