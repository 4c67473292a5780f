/* Each notification wakes one who waits, in order; that of a dead one goes on to another. */
#include <limits.h>
#include <unistd.h>

#include "condition.h"
#include "lock.h"
#include "support.h"

#define THREADS 6
#define ROUNDS 3000

static struct shm_segment segment;
static const struct shm_place futex = {0};
static uint32_t spin;

static struct shm_lock *the_lock(void) { return (struct shm_lock *)shm_body(&segment); }
static struct shm_condition *condition(void) { return (struct shm_condition *)(the_lock() + 1); }
static uint64_t word_of(uint32_t place) { return load_acquire(&condition()->waiters[place].word); }

static void renew(void)
{
    memset(the_lock(), 0, sizeof(struct shm_lock) + sizeof(struct shm_condition));
}

static void lock(struct shm_segment *mine, struct shm_patience *patience)
{
    struct shm_wait wait;
    uint32_t claim = shm_me(mine);
    shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
    while (shm_lock_try(mine, the_lock(), claim) == SHM_LOCKED) {
        CHECK(shm_lock_wait(mine, the_lock(), &futex, patience, &wait) == SHM_OK);
        claim |= SHM_SLEEPERS;
    }
}

static void unlock(void) { CHECK(shm_lock_release(the_lock(), &futex) == SHM_OK); }

static uint32_t enter(struct shm_segment *mine)
{
    uint32_t place;
    CHECK(shm_condition_enter(mine, condition(), &place) == SHM_OK);
    return place;
}

/* Until notified, or the time is up. */
static void sleep_in(struct shm_segment *mine, uint32_t *place, struct shm_patience *patience,
                     struct shm_wait *wait)
{
    int status = SHM_OK;
    while (status == SHM_OK && !shm_condition_is_notified(condition(), *place))
        status = shm_condition_wait(mine, condition(), place, patience, wait);
    CHECK(status == SHM_OK || status == SHM_TIMED_OUT);
}

/* The lock is held, and will be again. */
static void wait_for_notice(struct shm_segment *mine, struct shm_patience *patience,
                            uint64_t interval)
{
    struct shm_wait wait;
    uint32_t place = enter(mine);
    shm_wait_init(&wait, SHM_NEVER, interval);
    unlock();
    sleep_in(mine, &place, patience, &wait);
    lock(mine, patience);
    CHECK(shm_condition_leave(condition(), place));
    CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
}

/* A thread that plays a participant; the first two play the same one. */
static void begin(struct shm_segment *own, struct shm_segment **mine, void *number)
{
    *mine = (intptr_t)number < 2 ? &segment : own;
    if (*mine == own)
        join_beside(own, &segment);
}

static void end(struct shm_segment *mine)
{
    bool last;
    if (mine != &segment)
        shm_leave(mine, NULL, &last);
}

/* --- under load --- */

static int made, used; /* under the lock */

static void *make_or_use(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    for (int i = 0; i < ROUNDS; i++) {
        lock(mine, &patience);
        if ((intptr_t)number % 2) {
            made++;
            shm_condition_notify(mine, condition(), 1);
        } else {
            while (made == used)
                wait_for_notice(mine, &patience, WITHOUT_RECHECK);
            used++;
        }
        unlock();
    }
    end(mine);
    return NULL;
}

static void no_notification_is_lost(uint32_t ns)
{
    spin = ns;
    renew();
    made = used = 0;
    run_threads(THREADS, make_or_use);
    CHECK(made == used && made == THREADS / 2 * ROUNDS);
    CHECK(shm_condition_waiting(&segment, condition()) == 0);
}

static int round_now, arrived;

static void *meet(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    for (int i = 1; i <= ROUNDS / 3; i++) {
        lock(mine, &patience);
        if (++arrived == THREADS) {
            arrived = 0;
            round_now = i;
            shm_condition_notify(mine, condition(), UINT_MAX);
        }
        while (round_now < i)
            wait_for_notice(mine, &patience, WITHOUT_RECHECK);
        unlock();
    }
    end(mine);
    return NULL;
}

static void all_are_notified(uint32_t ns)
{
    spin = ns;
    renew();
    round_now = arrived = 0;
    run_threads(THREADS, meet);
}

/* One notifies, when somebody waits; the others wait a moment, and some of those who are notified will
 * not act on it.  Each notification comes to exactly one who acts, but for those that nobody was there
 * to take over. */
static int given, taken, dropped, at_work;

static void wait_a_moment(struct shm_segment *mine, struct shm_patience *patience, int i)
{
    struct shm_wait wait;
    uint32_t place = enter(mine);
    shm_wait_init(&wait, shm_now() + (uint64_t)(i * 7919 % 50) * 1000, SHM_RECHECK_MIN);
    unlock();
    sleep_in(mine, &place, patience, &wait);
    lock(mine, patience);
    if (i % 5) {
        taken += shm_condition_leave(condition(), place);
        return;
    }
    dropped += shm_condition_is_notified(condition(), place) &&
               shm_condition_waiting(mine, condition()) == 0;
    shm_condition_give_up(mine, condition(), place);
}

static void *wait_or_notify(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    lock(mine, &patience);
    for (int i = 0; number ? i < ROUNDS : at_work > 0; i++) {
        if (number) {
            wait_a_moment(mine, &patience, i);
        } else {
            given += shm_condition_waiting(mine, condition()) > 0;
            shm_condition_notify(mine, condition(), 1);
        }
        unlock();
        lock(mine, &patience);
    }
    at_work -= number != NULL;
    unlock();
    end(mine);
    return NULL;
}

static void each_notification_has_one_taker(uint32_t ns)
{
    spin = ns;
    renew();
    given = taken = dropped = 0;
    at_work = THREADS - 1;
    run_threads(THREADS, wait_or_notify);
    CHECK(given == taken + dropped);
    for (uint32_t place = 0; place < SHM_WAITERS; place++)
        CHECK(word_of(place) == 0);
}

/* --- in order --- */

static void who_came_first_is_notified_first(void)
{
    renew();
    store_relaxed(&condition()->ticket, UINT32_MAX - 1); /* tickets wrap */
    uint32_t first = enter(&segment), second = enter(&segment), third = enter(&segment);
    CHECK(shm_condition_waiting(&segment, condition()) == 3);
    shm_condition_notify(&segment, condition(), 1);
    CHECK(shm_condition_is_notified(condition(), first));
    CHECK(!shm_condition_is_notified(condition(), second));
    CHECK(shm_condition_leave(condition(), first));
    uint32_t fourth = enter(&segment); /* in the first one's place, but with a later ticket */
    CHECK(fourth == first);
    shm_condition_notify(&segment, condition(), 2);
    CHECK(shm_condition_leave(condition(), second) && shm_condition_leave(condition(), third));
    CHECK(!shm_condition_leave(condition(), fourth));
    shm_condition_notify(&segment, condition(), 1); /* nobody there: nothing is kept */
    CHECK(!shm_condition_leave(condition(), enter(&segment)));
}

static void who_gives_up_passes_it_on(void)
{
    renew();
    uint32_t first = enter(&segment), second = enter(&segment);
    shm_condition_notify(&segment, condition(), 1);
    shm_condition_give_up(&segment, condition(), first);
    CHECK(shm_condition_leave(condition(), second));
    uint32_t third = enter(&segment), fourth = enter(&segment);
    shm_condition_give_up(&segment, condition(), third);
    CHECK(!shm_condition_leave(condition(), fourth));
}

/* --- deaths --- */

static void enter_once(void) { enter(&segment); }

static void enter_everywhere(void)
{
    uint32_t place;
    while (shm_condition_enter(&segment, condition(), &place) == SHM_OK)
        ;
    CHECK(shm_condition_waiting(&segment, condition()) == SHM_WAITERS);
}

static void all_places_taken(void)
{
    uint32_t place;
    renew();
    enter_everywhere();
    CHECK(shm_condition_enter(&segment, condition(), &place) == SHM_NO_PLACE);
    shm_condition_notify(&segment, condition(), UINT_MAX);
    for (place = 0; place < SHM_WAITERS; place++)
        CHECK(shm_condition_leave(condition(), place));

    int pid = start_player(&segment, enter_everywhere, NULL);
    CHECK(shm_condition_enter(&segment, condition(), &place) == SHM_NO_PLACE);
    kill_player(pid);
    enter(&segment);
    CHECK(shm_condition_waiting(&segment, condition()) == 1);
}

/* Of those who died all but one were notified: one of the notifications reaches the one who comes
 * to the full table, or rather who waits there already. */
static void all_places_taken_by_notified_ones(void)
{
    renew();
    uint32_t mine = enter(&segment);
    int pid = start_player(&segment, enter_everywhere, NULL);
    shm_condition_notify(&segment, condition(), UINT_MAX);
    CHECK(shm_condition_leave(condition(), mine));
    mine = enter(&segment);
    kill_player(pid);
    uint32_t another = enter(&segment); /* it was full */
    CHECK(shm_condition_leave(condition(), mine));
    CHECK(!shm_condition_leave(condition(), another));
}

/* The dead one came first and was notified; the next is told, by the sleeper himself. */
static void a_sleeper_takes_what_the_dead_was_told(uint32_t ns)
{
    struct shm_patience patience;
    struct shm_wait wait;
    renew();
    shm_patience_init(&patience, ns);
    shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
    int pid = start_player(&segment, enter_once, NULL);
    uint32_t mine = enter(&segment);
    shm_condition_notify(&segment, condition(), 1);
    CHECK(!shm_condition_is_notified(condition(), mine));
    kill_player(pid);
    sleep_in(&segment, &mine, &patience, &wait);
    CHECK(shm_condition_leave(condition(), mine));
    CHECK(word_of(0) == 0 && word_of(1) == 0);
}

static void who_notifies_passes_on_what_the_dead_was_told(void)
{
    renew();
    int pid = start_player(&segment, enter_once, NULL);
    uint32_t first = enter(&segment), second = enter(&segment), third = enter(&segment);
    shm_condition_notify(&segment, condition(), 1);
    kill_player(pid);
    shm_condition_notify(&segment, condition(), 1);
    CHECK(shm_condition_leave(condition(), first) && shm_condition_leave(condition(), second));
    CHECK(!shm_condition_leave(condition(), third));
}

static void who_died_waiting_is_passed_over(void)
{
    renew();
    int pid = start_player(&segment, enter_once, NULL);
    uint32_t mine = enter(&segment);
    CHECK(shm_condition_waiting(&segment, condition()) == 2);
    kill_player(pid);
    CHECK(shm_condition_waiting(&segment, condition()) == 1);
    shm_condition_notify(&segment, condition(), 1);
    CHECK(shm_condition_leave(condition(), mine));
}

/* The slot lives again, but it is somebody else. */
static void the_next_in_the_slot_does_not_wait(void)
{
    struct shm_segment next;
    uint32_t dead;
    bool last;
    renew();
    kill_player(start_player(&segment, enter_once, &dead));
    join_in_slot_of(&next, &segment, dead);
    CHECK(shm_condition_waiting(&segment, condition()) == 0);
    uint32_t mine = enter(&segment);
    shm_condition_notify(&next, condition(), 1);
    CHECK(shm_condition_leave(condition(), mine));

    int pid = start_player(&segment, enter_once, &dead);
    mine = enter(&segment);
    shm_condition_notify(&segment, condition(), 1);
    kill_player(pid);
    shm_leave(&next, NULL, &last);
    join_in_slot_of(&next, &segment, dead);
    uint32_t other = enter(&next);
    shm_condition_notify(&next, condition(), 0); /* none of his own, but the dead one's */
    CHECK(shm_condition_leave(condition(), mine));
    CHECK(!shm_condition_leave(condition(), other));
    shm_leave(&next, NULL, &last);
}

/* A process leaves the segment while a thread of it is here.  Its place is a dead one's, and then that of
 * another, which its thread may not give back. */
static void who_has_left_gives_nothing_back(void)
{
    struct shm_segment other;
    bool last;
    renew();
    join_beside(&other, &segment);
    uint32_t place = enter(&other);
    shm_leave(&other, NULL, &last);
    CHECK(shm_condition_waiting(&segment, condition()) == 0);
    shm_condition_notify(&segment, condition(), 1); /* clears it */
    CHECK(enter(&segment) == place);
    shm_condition_give_up(&other, condition(), place);
    CHECK(shm_condition_waiting(&segment, condition()) == 1);
    shm_condition_notify(&segment, condition(), 1);
    shm_condition_give_up(&other, condition(), place);
    CHECK(shm_condition_leave(condition(), place));
}

/* Killed asleep, each at another moment, while others wait and notify. */
static void wait_for_ever(void)
{
    struct shm_patience patience;
    shm_patience_init(&patience, 0);
    while (true) {
        lock(&segment, &patience);
        wait_for_notice(&segment, &patience, SHM_RECHECK_SOON);
        unlock();
    }
}

static int start_waiter(void)
{
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(360); /* after the whole test's limit: nobody waits for who is gone */
        while (shm_join(&segment, false) == SHM_LOCKED)
            ;
        wait_for_ever();
    }
    return pid;
}

static void killed_anywhere(void)
{
    enum { PLAYERS = 3, KILLS = 60 };
    struct shm_patience patience;
    int pids[PLAYERS];
    renew();
    shm_patience_init(&patience, 0);
    for (int i = 0; i < PLAYERS; i++)
        pids[i] = start_waiter();
    for (int i = 0; i < KILLS; i++) {
        for (int k = 0; k < i * 7919 % 40; k++) {
            lock(&segment, &patience);
            shm_condition_notify(&segment, condition(), k % 7 ? 1 : UINT_MAX);
            unlock();
        }
        kill_player(pids[i % PLAYERS]);
        pids[i % PLAYERS] = start_waiter();
    }
    for (int i = 0; i < PLAYERS; i++)
        kill_player(pids[i]);
    lock(&segment, &patience);
    CHECK(shm_condition_waiting(&segment, condition()) == 0);
    uint32_t mine = enter(&segment);
    shm_condition_notify(&segment, condition(), 1);
    CHECK(shm_condition_leave(condition(), mine));
    for (uint32_t place = 0; place < SHM_WAITERS; place++)
        CHECK(word_of(place) == 0);
    unlock();
}

/* --- and what nobody may write there --- */

static void nonsense_in_the_places_is_nobody(void)
{
    struct shm_patience patience;
    struct shm_wait wait;
    renew();
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, shm_now() + 1000000, SHM_RECHECK_SOON);
    for (uint64_t i = 0; i < SHM_WAITERS; i++)
        store_relaxed(&condition()->waiters[i].word, (i + 1) * 0x9E3779B97F4A7C15u);
    store_relaxed(&condition()->waiters_used, UINT32_MAX);
    CHECK(shm_condition_waiting(&segment, condition()) == 0);
    shm_condition_notify(&segment, condition(), 3);
    uint32_t place = enter(&segment);
    sleep_in(&segment, &place, &patience, &wait);
    shm_condition_give_up(&segment, condition(), place);
    shm_condition_wake_all(condition());
}

static void a_wait_has_an_end(void)
{
    struct shm_patience patience;
    struct shm_wait wait;
    renew();
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, shm_now() + 1000000, SHM_RECHECK_MIN);
    uint32_t place = enter(&segment);
    sleep_in(&segment, &place, &patience, &wait);
    CHECK(!shm_condition_spin(condition(), place, 1000));
    CHECK(!shm_condition_leave(condition(), place));
}

int main(void)
{
    make_segment(&segment, sizeof(struct shm_lock) + sizeof(struct shm_condition), 0);
    who_came_first_is_notified_first();
    who_gives_up_passes_it_on();
    all_places_taken();
    all_places_taken_by_notified_ones();
    a_sleeper_takes_what_the_dead_was_told(0);
    a_sleeper_takes_what_the_dead_was_told(SHM_SPIN_MOST);
    who_notifies_passes_on_what_the_dead_was_told();
    who_died_waiting_is_passed_over();
    the_next_in_the_slot_does_not_wait();
    who_has_left_gives_nothing_back();
    killed_anywhere();
    nonsense_in_the_places_is_nobody();
    a_wait_has_an_end();
    no_notification_is_lost(0);
    no_notification_is_lost(SHM_SPIN_MOST);
    all_are_notified(0);
    all_are_notified(SHM_SPIN_MOST);
    each_notification_has_one_taker(0);
    each_notification_has_one_taker(SHM_SPIN_MOST);
    return 0;
}
