/* All meet or none does; the dead break it, but not on their way out. */
#include <sched.h>
#include <unistd.h>

#include "barrier.h"
#include "support.h"

#define THREADS 4
#define ROUNDS 1000
#define SPUN 200 /* rounds; who spins keeps a processor from the others */
#define SLOTS 32

static struct shm_segment segment;
static const struct shm_place futex = {0};
static uint32_t spin;
static bool acts;

static struct shm_barrier *barrier(void) { return (struct shm_barrier *)shm_body(&segment); }

static uint32_t phase(void) { return load_acquire(&barrier()->phase) & SHM_PHASE; }

static void renew(uint32_t parties)
{
    memset(barrier(), 0, shm_barrier_size(SLOTS));
    barrier()->parties = parties;
}

static bool is_done(int status) { return status == SHM_OK || status == SHM_BROKEN_OFF; }

static int arrive(struct shm_segment *mine, struct shm_patience *patience, struct shm_wait *wait,
                  uint32_t *index)
{
    int status;
    while (!is_done(status = shm_barrier_arrive(mine, barrier(), acts, index))) {
        if (status == SHM_LOCKED)
            status = shm_lock_wait(mine, &barrier()->guard, &futex, patience, wait);
        else
            status = shm_barrier_wait(mine, barrier(), false, patience, wait);
        if (status == SHM_TIMED_OUT)
            break;
        CHECK(status == SHM_OK);
    }
    return status;
}

static int wait_for_others(struct shm_segment *mine, struct shm_patience *patience,
                           struct shm_wait *wait)
{
    int status;
    while ((status = shm_barrier_look(barrier())) == SHM_NOT_NOW) {
        status = shm_barrier_wait(mine, barrier(), true, patience, wait);
        if (status == SHM_TIMED_OUT) {
            shm_barrier_time_out(barrier());
            wait->deadline = SHM_NEVER;
        } else {
            CHECK(status == SHM_OK);
        }
    }
    return status;
}

/* One round, and `action` at its end by the last one. */
static int pass(struct shm_segment *mine, struct shm_patience *patience, struct shm_wait *wait,
                uint32_t *index, void (*action)(void))
{
    int status = arrive(mine, patience, wait, index);
    if (status != SHM_OK)
        return status;
    if (acts && *index + 1 == barrier()->parties) {
        action();
        status = shm_barrier_finish(barrier());
    } else {
        status = wait_for_others(mine, patience, wait);
    }
    shm_barrier_leave(mine, barrier());
    return status;
}

static int pass_once(struct shm_segment *mine, uint64_t deadline, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t index;
    shm_patience_init(&patience, spin);
    shm_wait_init(&wait, deadline, interval);
    int status = pass(mine, &patience, &wait, &index, NULL);
    CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
    return status;
}

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

static int written[THREADS], summed; /* plain: the barrier is what orders them */
static shm_atomic32 indices;

static void sum_up(void)
{
    summed = 0;
    for (int i = 0; i < THREADS; i++)
        summed += written[i];
}

/* Each writes before it arrives and reads what all have written; the next round changes it. */
static void *meet(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t index;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    for (int round = 1; round <= (spin ? SPUN : ROUNDS); round++) {
        shm_wait_init(&wait, SHM_NEVER, WITHOUT_RECHECK);
        written[(intptr_t)number] = round;
        CHECK(pass(mine, &patience, &wait, &index, sum_up) == SHM_OK);
        for (int i = 0; i < THREADS; i++)
            CHECK(written[i] == round);
        CHECK(!acts || summed == THREADS * round);
        fetch_add(&indices, 1u << 8 * index);
        CHECK(pass(mine, &patience, &wait, &index, sum_up) == SHM_OK);
        if (index == 0)
            CHECK(exchange(&indices, 0) == 0x01010101); /* each number once */
        CHECK(pass(mine, &patience, &wait, &index, sum_up) == SHM_OK);
        CHECK(wait.interval == WITHOUT_RECHECK);
    }
    end(mine);
    return NULL;
}

static void all_meet_in_each_round(uint32_t ns, bool with_action)
{
    spin = ns;
    acts = with_action;
    renew(THREADS);
    store_relaxed(&indices, 0);
    run_threads(THREADS, meet);
    CHECK(phase() == SHM_FILLING && shm_barrier_waiting(&segment, barrier()) == 0);
    CHECK(load_relaxed(&barrier()->guard.word) == 0);
    acts = false;
}

/* More come than are parties; they go through two by two. */
static shm_atomic32 tickets;
static shm_atomic32 last_ones;

static void nothing(void) { sched_yield(); }

static void *come_by_twos(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t index;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    while (fetch_add(&tickets, 1) < 2 * ROUNDS) {
        shm_wait_init(&wait, SHM_NEVER, WITHOUT_RECHECK);
        CHECK(pass(mine, &patience, &wait, &index, nothing) == SHM_OK);
        CHECK(wait.interval == WITHOUT_RECHECK);
        CHECK(index < 2);
        fetch_add(&last_ones, index);
    }
    end(mine);
    return NULL;
}

static void more_come_than_are_parties(uint32_t ns, bool with_action)
{
    spin = ns;
    acts = with_action;
    renew(2);
    store_relaxed(&tickets, 0);
    store_relaxed(&last_ones, 0);
    run_threads(THREADS + 1, come_by_twos);
    CHECK(load_relaxed(&last_ones) == ROUNDS);
    acts = false;
}

/* Whoever finds it broken resets it; time runs out, somebody aborts: nobody hangs, and in the end
 * it works. */
static shm_atomic32 met;

static void *come_and_break(void *number)
{
    struct shm_segment own, *mine;
    begin(&own, &mine, number);
    for (int i = 0; i < (spin ? SPUN : ROUNDS); i++) {
        int what = (i + (int)(intptr_t)number * 7) * 7919 % 97;
        uint64_t deadline = what < 40 ? shm_now() + 20000u * (uint64_t)what : shm_now() + 5000000;
        int status = pass_once(mine, deadline, SHM_RECHECK_SOON);
        if (status == SHM_OK)
            fetch_add(&met, 1);
        else if (what % 3 == 0)
            shm_barrier_reset(mine, barrier());
        if (what == 96)
            shm_barrier_abort(barrier());
    }
    end(mine);
    return NULL;
}

static void broken_and_mended(uint32_t ns)
{
    spin = ns;
    renew(3);
    run_threads(THREADS, come_and_break);
    shm_barrier_reset(&segment, barrier());
    CHECK(phase() == SHM_FILLING && shm_barrier_waiting(&segment, barrier()) == 0);
    renew(1);
    CHECK(pass_once(&segment, SHM_NEVER, WITHOUT_RECHECK) == SHM_OK);
}

/* --- step by step --- */

static uint32_t arrive_now(struct shm_segment *mine)
{
    uint32_t index;
    CHECK(shm_barrier_arrive(mine, barrier(), acts, &index) == SHM_OK);
    return index;
}

static void who_comes_while_they_leave_or_act_has_to_wait(void)
{
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t index;
    renew(2);
    shm_patience_init(&patience, 0);
    acts = true;
    CHECK(arrive_now(&segment) == 0 && arrive_now(&segment) == 1);
    CHECK(phase() == SHM_ACTING && shm_barrier_look(barrier()) == SHM_NOT_NOW);
    CHECK(shm_barrier_arrive(&segment, barrier(), acts, &index) == SHM_NOT_NOW);
    shm_wait_init(&wait, shm_now() + 1000000, SHM_RECHECK_SOON);
    int status;
    while ((status = shm_barrier_wait(&segment, barrier(), false, &patience, &wait)) == SHM_OK)
        CHECK(wait.parks); /* it sleeps */
    CHECK(status == SHM_TIMED_OUT);
    shm_barrier_time_out(barrier()); /* they have met: not broken */
    CHECK(shm_barrier_finish(barrier()) == SHM_OK);
    CHECK(shm_barrier_look(barrier()) == SHM_OK);
    CHECK(shm_barrier_arrive(&segment, barrier(), acts, &index) == SHM_NOT_NOW);
    shm_barrier_leave(&segment, barrier());
    CHECK(shm_barrier_arrive(&segment, barrier(), acts, &index) == SHM_NOT_NOW);
    shm_barrier_leave(&segment, barrier());
    CHECK(phase() == SHM_FILLING && arrive_now(&segment) == 0);
    acts = false;
}

static void a_reset_sends_off_who_waits(void)
{
    uint32_t index;
    renew(2);
    shm_barrier_reset(&segment, barrier()); /* nobody there */
    CHECK(phase() == SHM_FILLING);
    arrive_now(&segment);
    shm_barrier_reset(&segment, barrier());
    CHECK(shm_barrier_look(barrier()) == SHM_BROKEN_OFF);
    CHECK(!shm_barrier_is_broken(&segment, barrier()));
    CHECK(shm_barrier_arrive(&segment, barrier(), false, &index) == SHM_NOT_NOW);
    shm_barrier_leave(&segment, barrier());
    CHECK(phase() == SHM_FILLING && arrive_now(&segment) == 0);
}

static void broken_until_it_is_reset(void)
{
    uint32_t index;
    renew(2);
    CHECK(pass_once(&segment, shm_now() + 1000000, SHM_RECHECK_MIN) == SHM_BROKEN_OFF);
    CHECK(shm_barrier_is_broken(&segment, barrier()));
    CHECK(shm_barrier_arrive(&segment, barrier(), false, &index) == SHM_BROKEN_OFF);
    shm_barrier_reset(&segment, barrier());
    CHECK(!shm_barrier_is_broken(&segment, barrier()));
    CHECK(arrive_now(&segment) == 0);
    shm_barrier_abort(barrier());
    CHECK(shm_barrier_look(barrier()) == SHM_BROKEN_OFF);
    shm_barrier_reset(&segment, barrier()); /* before who waited has left */
    CHECK(shm_barrier_look(barrier()) == SHM_BROKEN_OFF);
    shm_barrier_leave(&segment, barrier());
    CHECK(arrive_now(&segment) == 0 && arrive_now(&segment) == 1);
    CHECK(shm_barrier_look(barrier()) == SHM_OK);
}

/* --- deaths --- */

static void arrive_once(void) { arrive_now(&segment); }

static void one_who_arrived_and_died_breaks_it(void)
{
    uint32_t index;
    renew(3);
    int pid = start_player(&segment, arrive_once, NULL);
    CHECK(arrive_now(&segment) == 1);
    CHECK(shm_barrier_waiting(&segment, barrier()) == 2);
    kill_player(pid);
    CHECK(shm_barrier_arrive(&segment, barrier(), false, &index) == SHM_BROKEN_OFF);
    CHECK(shm_barrier_look(barrier()) == SHM_BROKEN_OFF);
    shm_barrier_leave(&segment, barrier());
    shm_barrier_reset(&segment, barrier());
    CHECK(phase() == SHM_FILLING && arrive_now(&segment) == 0);
}

/* The slot has a new owner, who does not know of it. */
static void also_if_the_slot_is_used_again(void)
{
    struct shm_segment next;
    uint32_t dead, index;
    bool last;
    renew(2);
    kill_player(start_player(&segment, arrive_once, &dead));
    join_in_slot_of(&next, &segment, dead);
    CHECK(shm_barrier_arrive(&next, barrier(), false, &index) == SHM_BROKEN_OFF);
    shm_barrier_reset(&segment, barrier());
    CHECK(arrive_now(&next) == 0 && arrive_now(&segment) == 1);
    shm_leave(&next, NULL, &last);
}

static int victim;

static void *kill_or_pass(void *number)
{
    if (number) {
        usleep(20000);
        kill_player(victim);
    } else {
        CHECK(pass_once(&segment, SHM_NEVER, SHM_RECHECK_MIN) == SHM_BROKEN_OFF);
    }
    return NULL;
}

static void a_sleeper_finds_the_death(uint32_t ns)
{
    spin = ns;
    renew(3);
    victim = start_player(&segment, arrive_once, NULL);
    run_threads(2, kill_or_pass);
}

static void arrive_twice_and_act(void)
{
    acts = true;
    arrive_now(&segment);
    arrive_now(&segment);
}

static void one_who_dies_acting_breaks_it(void)
{
    renew(3);
    arrive_now(&segment);
    int pid = start_player(&segment, arrive_twice_and_act, NULL);
    CHECK(shm_barrier_look(barrier()) == SHM_NOT_NOW && phase() == SHM_ACTING);
    kill_player(pid);
    CHECK(shm_barrier_is_broken(&segment, barrier()));
    CHECK(shm_barrier_look(barrier()) == SHM_BROKEN_OFF);
    CHECK(shm_barrier_finish(barrier()) == SHM_BROKEN_OFF);
}

/* They have met; one does not come out any more. */
static void one_who_dies_on_his_way_out_holds_nobody_up(bool slot_is_used_again)
{
    struct shm_segment next;
    uint32_t dead;
    bool last;
    renew(2);
    arrive_now(&segment);
    int pid = start_player(&segment, arrive_once, &dead);
    CHECK(shm_barrier_look(barrier()) == SHM_OK);
    kill_player(pid);
    if (slot_is_used_again)
        join_in_slot_of(&next, &segment, dead);
    shm_barrier_leave(&segment, barrier());
    CHECK(arrive_now(&segment) == 0);
    CHECK(!shm_barrier_is_broken(&segment, barrier()));
    CHECK(arrive_now(&segment) == 1);
    CHECK(shm_barrier_look(barrier()) == SHM_OK);
    if (slot_is_used_again)
        shm_leave(&next, NULL, &last);
}

/* The same for one who sleeps until the others have left. */
static void *arrive_or_kill(void *number)
{
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t index;
    if (number) {
        usleep(20000);
        shm_barrier_leave(&segment, barrier());
        kill_player(victim);
        return NULL;
    }
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
    CHECK(arrive(&segment, &patience, &wait, &index) == SHM_OK && index == 0);
    return NULL;
}

static void who_waits_for_one_who_dies_leaving_comes_in(void)
{
    renew(2);
    arrive_now(&segment);
    victim = start_player(&segment, arrive_once, NULL);
    run_threads(2, arrive_or_kill);
    CHECK(!shm_barrier_is_broken(&segment, barrier()));
}

static void take_the_guard(void)
{
    CHECK(shm_lock_try(&segment, &barrier()->guard, shm_me(&segment)) == SHM_OK);
}

static void a_dead_one_at_the_guard_holds_nobody_up(void)
{
    uint32_t index;
    renew(1);
    int pid = start_player(&segment, take_the_guard, NULL);
    CHECK(shm_barrier_arrive(&segment, barrier(), false, &index) == SHM_LOCKED);
    kill_player(pid);
    CHECK(pass_once(&segment, SHM_NEVER, WITHOUT_RECHECK) == SHM_OK);
    CHECK(phase() == SHM_FILLING);
}

/* Who leaves last finds the guard taken: its holder opens the next round. */
static void who_was_at_the_guard_looks_again(void)
{
    struct shm_segment other;
    uint32_t index;
    bool last;
    renew(1);
    join_beside(&other, &segment);
    arrive_now(&segment);
    CHECK(shm_lock_try(&other, &barrier()->guard, shm_me(&other)) == SHM_OK);
    shm_barrier_leave(&segment, barrier());
    CHECK(phase() == SHM_LEAVING);
    shm_lock_release_guard(&barrier()->guard, &futex);
    CHECK(shm_barrier_arrive(&other, barrier(), false, &index) == SHM_OK && index == 0);
    shm_leave(&other, NULL, &last);
}

/* A process leaves the segment while a thread of it is here: as if it had died. */
static void who_has_left_opens_nothing(void)
{
    struct shm_segment other, third;
    bool last;
    renew(1);
    join_beside(&other, &segment);
    join_beside(&third, &segment);
    arrive_now(&other);
    shm_leave(&other, NULL, &last);
    CHECK(shm_lock_try(&third, &barrier()->guard, shm_me(&third)) == SHM_OK);
    shm_barrier_leave(&other, barrier());
    CHECK(phase() == SHM_LEAVING && load_relaxed(&barrier()->guard.word) == shm_me(&third));
    shm_lock_release_guard(&barrier()->guard, &futex);
    shm_barrier_leave(&other, barrier());
    CHECK(phase() == SHM_LEAVING && load_relaxed(&barrier()->guard.word) == 0);
    CHECK(arrive_now(&third) == 0);
    shm_leave(&third, NULL, &last);
}

/* Killed anywhere, and replaced; the parent mends it. */
static int start_party(void)
{
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(360); /* after the whole test's limit: nobody waits for who is gone */
        spin = 0;
        while (shm_join(&segment, false) == SHM_LOCKED)
            ;
        while (true)
            if (pass_once(&segment, SHM_NEVER, SHM_RECHECK_SOON) != SHM_OK)
                usleep(200);
    }
    return pid;
}

static void killed_anywhere(void)
{
    enum { CHILDREN = 3, KILLS = 60 };
    int pids[CHILDREN], good = 0;
    spin = 0;
    renew(CHILDREN + 1);
    for (int i = 0; i < CHILDREN; i++)
        pids[i] = start_party();
    for (int kills = 0; kills < KILLS; kills++) {
        for (int k = 0; k < kills * 7919 % 13 || good <= kills; k++) {
            if (pass_once(&segment, SHM_NEVER, SHM_RECHECK_SOON) == SHM_OK)
                good++;
            else
                shm_barrier_reset(&segment, barrier());
        }
        usleep((unsigned)(kills * 104729 % 300));
        kill_player(pids[kills % CHILDREN]);
        pids[kills % CHILDREN] = start_party();
    }
    for (int i = 0; i < CHILDREN; i++)
        kill_player(pids[i]);
    shm_barrier_reset(&segment, barrier());
    CHECK(arrive_now(&segment) == 0);
}

/* --- and what nobody may write there --- */

static void nonsense_in_the_ledger_is_nobody(void)
{
    shm_ledger *ledger = (shm_ledger *)(barrier() + 1);
    uint32_t index;
    for (uint32_t word = 0; word < 64; word++) {
        renew(2);
        for (uint64_t i = 0; i < SLOTS; i++)
            store_relaxed(&ledger[i], ((i + word) * 0x9E3779B97F4A7C15u) | 1);
        store_relaxed(&barrier()->slots_used, UINT32_MAX);
        store_relaxed(&barrier()->phase, word);
        int status = shm_barrier_arrive(&segment, barrier(), word & 1, &index);
        CHECK(status == SHM_OK || status == SHM_NOT_NOW || status == SHM_BROKEN_OFF);
        shm_barrier_waiting(&segment, barrier());
        shm_barrier_abort(barrier());
        shm_barrier_leave(&segment, barrier());
        shm_barrier_reset(&segment, barrier());
        CHECK(phase() == SHM_FILLING && arrive_now(&segment) == 0);
    }
}

int main(void)
{
    make_segment(&segment, shm_barrier_size(SLOTS), 0);
    who_comes_while_they_leave_or_act_has_to_wait();
    a_reset_sends_off_who_waits();
    broken_until_it_is_reset();
    one_who_arrived_and_died_breaks_it();
    also_if_the_slot_is_used_again();
    a_sleeper_finds_the_death(0);
    a_sleeper_finds_the_death(SHM_SPIN_MOST);
    one_who_dies_acting_breaks_it();
    one_who_dies_on_his_way_out_holds_nobody_up(false);
    one_who_dies_on_his_way_out_holds_nobody_up(true);
    who_waits_for_one_who_dies_leaving_comes_in();
    a_dead_one_at_the_guard_holds_nobody_up();
    who_was_at_the_guard_looks_again();
    who_has_left_opens_nothing();
    nonsense_in_the_ledger_is_nobody();
    killed_anywhere();
    for (int with_action = 0; with_action < 2; with_action++) {
        all_meet_in_each_round(0, with_action);
        all_meet_in_each_round(SHM_SPIN_MOST, with_action);
        more_come_than_are_parties(0, with_action);
        more_come_than_are_parties(SHM_SPIN_MOST, with_action);
    }
    broken_and_mended(0);
    broken_and_mended(SHM_SPIN_MOST);
    return 0;
}
