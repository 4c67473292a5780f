/* Conditions and barriers: no notification is lost; those who meet all know it, or none does. */
#include <limits.h>
#include <unistd.h>

#include "barrier.h"
#include "condition.h"
#include "kill_driver.h"
#include "mapping.h"

/* In the notes: what became of the bystanders. */
enum { OUTCOME = 0 /* and 1 */ };

/* --- a condition ------------------------------------------------------------------------------ */

static struct shm_condition *condition_of(struct kill_run *run)
{
    return (struct shm_condition *)shm_body(&run->segment);
}

/* Without the lock that goes with it, on which nothing relies. */
static void wait_for_notice(struct kill_run *run, uint64_t interval)
{
    struct shm_condition *condition = condition_of(run);
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t place;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    CHECK(shm_condition_enter(&run->segment, condition, &place) == SHM_OK);
    while (!shm_condition_is_notified(condition, place))
        CHECK(shm_condition_wait(&run->segment, condition, &place, &patience, &wait) == SHM_OK);
    CHECK(shm_condition_leave(condition, place));
}

static void wait_as(struct kill_run *run, int index, uint64_t interval)
{
    kill_ready(run, index);
    wait_for_notice(run, interval);
    store_release(&run->notes->words[OUTCOME + index], 1);
}

static void first_waiter(struct kill_run *run) { wait_as(run, 0, KILL_BYSTANDER_SLEEPS); }
static void second_waiter(struct kill_run *run) { wait_as(run, 1, KILL_BYSTANDER_SLEEPS); }
static void late_waiter(struct kill_run *run) { wait_as(run, 0, KILL_SLEEPS_ON); }

static void wait_here(struct kill_run *run) { wait_for_notice(run, KILL_VICTIM_SLEEPS); }

static void notify(struct kill_run *run, uint32_t count)
{
    shm_condition_notify(&run->segment, condition_of(run), count);
}

static void notify_one(struct kill_run *run) { notify(run, 1); }
static void notify_two(struct kill_run *run) { notify(run, 2); }

static uint64_t waiter_at_death(const struct kill_run *run, uint32_t place)
{
    size_t offset = offsetof(struct shm_condition, waiters) + place * sizeof(struct shm_waiter);
    uint64_t word;
    memcpy(&word, run->at_death + run->segment.facts.body_offset + offset, sizeof word);
    return word;
}

/* How many stood notified, of whoever, when the victim was killed. */
static uint32_t notified_at_death(const struct kill_run *run)
{
    uint32_t notified = 0;
    for (uint32_t place = 0; place < SHM_WAITERS; place++)
        notified += (waiter_at_death(run, place) & 3) == SHM_NOTIFIED;
    return notified;
}

/* Nobody waits and no notice is left over; one reaches who waits. */
static void condition_goes_on(struct kill_run *run)
{
    notify(run, 1);
    CHECK(shm_condition_waiting(&run->segment, condition_of(run)) == 0);
    kill_start_bystander(run, 0, late_waiter);
    CHECK(shm_condition_waiting(&run->segment, condition_of(run)) == 1);
    notify(run, 1);
    kill_bystander_ends(run, 0);
    for (uint32_t place = 0; place < SHM_WAITERS; place++)
        CHECK(load_relaxed(&condition_of(run)->waiters[place].word) == 0);
}

/* The victim waited first, and the only notice is for him; the other has it if he has not. */
static void notify_with_another_behind(struct kill_run *run)
{
    if (run->slept == 1) {
        kill_start_bystander(run, 0, first_waiter);
        notify(run, 1);
    }
}

static void after_notice_to_the_dead(struct kill_run *run)
{
    if (run->slept && notified_at_death(run) == 0)
        notify(run, 1); /* he came back from his wait */
    kill_bystander_ends(run, 0);
    condition_goes_on(run);
}

static void after_waiting_behind(struct kill_run *run)
{
    if (!run->slept)
        notify(run, 1);
    kill_bystander_ends(run, 0);
    condition_goes_on(run);
}

/* Those who were notified wake up by themselves, the others wait still. */
static void after_notifying(struct kill_run *run)
{
    uint32_t notified = notified_at_death(run);
    CHECK(notified == 0 || run->point.kind != KILL_AT_BEGIN);
    if (run->point.kind == KILL_AT_END)
        notified = 2;
    while (load_acquire(&run->notes->words[OUTCOME]) +
               load_acquire(&run->notes->words[OUTCOME + 1]) <
           notified)
        usleep(100);
    if (run->point.kind != KILL_AT_END)
        notify(run, 2);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    condition_goes_on(run);
}

/* Somebody is notified and dies before he is back from his wait. */
static void somebody_dies_notified(struct kill_run *run)
{
    uint32_t place;
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(shm_join(&run->segment, false) == SHM_OK);
        CHECK(shm_condition_enter(&run->segment, condition_of(run), &place) == SHM_OK);
        notify(run, 1);
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
}

/* His notice goes on to one of the two, whoever died while he passed it on; and none is lost. */
static void after_passing_on(struct kill_run *run)
{
    while (load_acquire(&run->notes->words[OUTCOME]) +
               load_acquire(&run->notes->words[OUTCOME + 1]) ==
           0)
        usleep(100);
    notify(run, 2);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    condition_goes_on(run);
}

/* --- a barrier -------------------------------------------------------------------------------- */

#define PARTIES 3

static struct shm_barrier *barrier_of(struct kill_run *run)
{
    return (struct shm_barrier *)shm_body(&run->segment);
}

static void three_parties(struct kill_run *run) { barrier_of(run)->parties = PARTIES; }

static void look_again(struct kill_run *run, bool arrived, struct shm_patience *patience,
                       struct shm_wait *wait)
{
    CHECK(shm_barrier_wait(&run->segment, barrier_of(run), arrived, patience, wait) == SHM_OK);
}

/* SHM_OK: all have met. */
static int meet(struct kill_run *run, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t index;
    int status;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while ((status = shm_barrier_arrive(&run->segment, barrier_of(run), false, &index)) != SHM_OK) {
        if (status == SHM_BROKEN_OFF)
            return status;
        if (status == SHM_NOT_NOW)
            look_again(run, false, &patience, &wait);
    }
    while ((status = shm_barrier_look(barrier_of(run))) == SHM_NOT_NOW)
        look_again(run, true, &patience, &wait);
    shm_barrier_leave(&run->segment, barrier_of(run));
    return status;
}

static void meet_as(struct kill_run *run, int index, uint64_t interval)
{
    kill_ready(run, index);
    store_release(&run->notes->words[OUTCOME + index], (uint32_t)meet(run, interval));
}

static void first_party(struct kill_run *run) { meet_as(run, 0, KILL_BYSTANDER_SLEEPS); }
static void second_party(struct kill_run *run) { meet_as(run, 1, KILL_BYSTANDER_SLEEPS); }
static void first_again(struct kill_run *run) { meet_as(run, 0, KILL_SLEEPS_ON); }
static void second_again(struct kill_run *run) { meet_as(run, 1, KILL_SLEEPS_ON); }

static void meet_here(struct kill_run *run) { meet(run, KILL_VICTIM_SLEEPS); }

/* It was broken or is fit for use; three meet, without looking for anybody. */
static void barrier_goes_on(struct kill_run *run, bool broken)
{
    CHECK(shm_barrier_is_broken(&run->segment, barrier_of(run)) == broken);
    shm_barrier_reset(&run->segment, barrier_of(run));
    kill_start_bystander(run, 0, first_again);
    kill_start_bystander(run, 1, second_again);
    CHECK(shm_barrier_waiting(&run->segment, barrier_of(run)) == 2);
    CHECK(meet(run, KILL_SLEEPS_ON) == SHM_OK);
    for (int i = 0; i < 2; i++) {
        kill_bystander_ends(run, i);
        CHECK(load_acquire(&run->notes->words[OUTCOME + i]) == SHM_OK);
    }
    CHECK(shm_barrier_waiting(&run->segment, barrier_of(run)) == 0);
}

static uint32_t phase_at_death(const struct kill_run *run)
{
    return kill_word_at_death(run, offsetof(struct shm_barrier, phase));
}

/* Whether the victim counted among those who have arrived and not left. */
static bool arrived_at_death(const struct kill_run *run)
{
    size_t offset =
        sizeof(struct shm_barrier) + shm_slot_of(run->dead) * sizeof(shm_ledger);
    uint64_t word;
    memcpy(&word, run->at_death + run->segment.facts.body_offset + offset, sizeof word);
    return word == ((uint64_t)run->dead << 32 | 1);
}

static void all_have(struct kill_run *run, int outcome)
{
    for (int i = 0; i < 2; i++) {
        kill_bystander_ends(run, i);
        CHECK(load_acquire(&run->notes->words[OUTCOME + i]) == (uint32_t)outcome);
    }
}

static bool met_at_death(const struct kill_run *run)
{
    uint32_t phase = phase_at_death(run);
    return phase != SHM_FILLING && (phase & SHM_PHASE) != SHM_ACTING; /* a new one has epoch 0 */
}

/* Two are there, and the victim is the third. */
static void after_the_last_came(struct kill_run *run)
{
    bool met = met_at_death(run), arrived = arrived_at_death(run);
    CHECK(!met || run->point.kind != KILL_AT_BEGIN);
    CHECK(met || run->point.kind != KILL_AT_END);
    if (!met && !arrived)
        CHECK(meet(run, KILL_BYSTANDER_SLEEPS) == SHM_OK);
    all_have(run, met || !arrived ? SHM_OK : SHM_BROKEN_OFF);
    barrier_goes_on(run, !met && arrived);
}

static void act_here(struct kill_run *run)
{
    uint32_t index;
    int status;
    while ((status = shm_barrier_arrive(&run->segment, barrier_of(run), true, &index)) != SHM_OK)
        CHECK(status == SHM_LOCKED);
    CHECK(index == PARTIES - 1 && shm_barrier_look(barrier_of(run)) == SHM_NOT_NOW);
    CHECK(shm_barrier_finish(barrier_of(run)) == SHM_OK);
    shm_barrier_leave(&run->segment, barrier_of(run));
}

/* The victim is the second; the survivor comes when he sleeps. */
static void third_comes(struct kill_run *run)
{
    if (run->slept == 1)
        CHECK(meet(run, KILL_BYSTANDER_SLEEPS) == SHM_OK);
}

static void after_the_second_came(struct kill_run *run)
{
    bool met = met_at_death(run), arrived = arrived_at_death(run);
    CHECK(met == (run->slept > 0));
    if (!met && !arrived) { /* two others in his stead */
        kill_start_bystander(run, 1, second_party);
        CHECK(meet(run, KILL_BYSTANDER_SLEEPS) == SHM_OK);
    }
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    CHECK(load_acquire(&run->notes->words[OUTCOME]) ==
          (uint32_t)(met || !arrived ? SHM_OK : SHM_BROKEN_OFF));
    barrier_goes_on(run, !met && arrived);
}

static void break_it(struct kill_run *run) { shm_barrier_abort(barrier_of(run)); }

static void three_parties_broken(struct kill_run *run)
{
    three_parties(run);
    break_it(run);
}

static void reset(struct kill_run *run) { shm_barrier_reset(&run->segment, barrier_of(run)); }

static void after_reset(struct kill_run *run)
{
    barrier_goes_on(run, (phase_at_death(run) & SHM_PHASE) == SHM_BROKEN);
}

#define CONDITION .primitive = "condition", .body_size = sizeof(struct shm_condition)
#define BARRIER                                                                                \
    .primitive = "barrier",                                                                    \
    .body_size = sizeof(struct shm_barrier) + 32 * sizeof(shm_ledger)
#define ALL_OR_NONE "all have met, or for all it is broken, or the dead had not come"

const struct kill_scenario kill_meet[] = {
    {CONDITION,
     .operation = "wait, before another",
     .who_dies = "the first waiter, notified or not",
     .others_see = "the other is notified, unless the dead was back from his wait",
     .victim = wait_here,
     .other_side = notify_with_another_behind,
     .check = after_notice_to_the_dead},
    {CONDITION,
     .operation = "wait, behind another",
     .who_dies = "the second waiter",
     .others_see = "the other is notified",
     .bystanders = {first_waiter},
     .victim = wait_here,
     .other_side = notify_one,
     .check = after_waiting_behind},
    {CONDITION,
     .operation = "notify two",
     .who_dies = "who notifies",
     .others_see = "those who were notified wake, the others wait on",
     .bystanders = {first_waiter, second_waiter},
     .victim = notify_two,
     .check = after_notifying},
    {CONDITION,
     .operation = "notify, one died notified",
     .who_dies = "a waiter, then who notifies",
     .others_see = "the dead one's notice goes on to another",
     .set_up = somebody_dies_notified,
     .bystanders = {first_waiter, second_waiter},
     .victim = notify_one,
     .check = after_passing_on},
    {BARRIER,
     .operation = "wait, as the second of three",
     .who_dies = "the second",
     .others_see = ALL_OR_NONE,
     .set_up = three_parties,
     .bystanders = {first_party},
     .victim = meet_here,
     .other_side = third_comes,
     .check = after_the_second_came},
    {BARRIER,
     .operation = "wait, as the last of three",
     .who_dies = "the last",
     .others_see = ALL_OR_NONE,
     .set_up = three_parties,
     .bystanders = {first_party, second_party},
     .victim = meet_here,
     .check = after_the_last_came},
    {BARRIER,
     .operation = "wait, as the last, with an action",
     .who_dies = "the last",
     .others_see = ALL_OR_NONE,
     .set_up = three_parties,
     .bystanders = {first_party, second_party},
     .victim = act_here,
     .check = after_the_last_came},
    {BARRIER,
     .operation = "reset, broken",
     .who_dies = "who resets",
     .others_see = "broken still, or as new",
     .set_up = three_parties_broken,
     .victim = reset,
     .check = after_reset},
    {0},
};
