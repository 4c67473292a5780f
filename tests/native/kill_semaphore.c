/* Semaphores and the Event's flag: what is there is found, and a bounded one's units come back. */
#include <limits.h>

#include "flag.h"
#include "kill_driver.h"
#include "mapping.h"
#include "semaphores.h"

enum { IS_BOUNDED = 0 }; /* in the notes */

#define UNITS 2u /* of the bounded one */

static struct shm_semaphore *plain_of(struct kill_run *run)
{
    return (struct shm_semaphore *)shm_body(&run->segment);
}

static struct shm_bounded *bounded_of(struct kill_run *run)
{
    return (struct shm_bounded *)shm_body(&run->segment);
}

static bool is_bounded(struct kill_run *run)
{
    return load_relaxed(&run->notes->words[IS_BOUNDED]);
}

/* --- both kinds through the same calls -------------------------------------------------------- */

static int try_one(struct kill_run *run)
{
    int status;
    if (!is_bounded(run))
        return shm_semaphore_try(plain_of(run));
    while ((status = shm_bounded_try(&run->segment, bounded_of(run))) == SHM_LOCKED)
        ;
    return status;
}

static int wait_once(struct kill_run *run, struct shm_patience *patience, struct shm_wait *wait)
{
    return is_bounded(run) ? shm_bounded_wait(&run->segment, bounded_of(run), patience, wait)
                           : shm_semaphore_wait(plain_of(run), patience, wait);
}

static int give_one(struct kill_run *run)
{
    return is_bounded(run) ? shm_bounded_release(&run->segment, bounded_of(run))
                           : shm_semaphore_release(plain_of(run));
}

static void take_one(struct kill_run *run, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (try_one(run) != SHM_OK)
        CHECK(wait_once(run, &patience, &wait) == SHM_OK);
}

static void first_sleeper(struct kill_run *run)
{
    kill_ready(run, 0);
    take_one(run, KILL_BYSTANDER_SLEEPS);
}

static void second_sleeper(struct kill_run *run)
{
    kill_ready(run, 1);
    take_one(run, KILL_BYSTANDER_SLEEPS);
}

static void late_sleeper(struct kill_run *run)
{
    kill_ready(run, 0);
    take_one(run, KILL_SLEEPS_ON);
}

static void acquire(struct kill_run *run) { take_one(run, KILL_VICTIM_SLEEPS); }
static void release(struct kill_run *run) { CHECK(give_one(run) == SHM_OK); }

/* --- a plain one ------------------------------------------------------------------------------ */

static void one_unit(struct kill_run *run) { store_relaxed(&plain_of(run)->value, 1); }

/* There are none; a wake reaches who sleeps, and there are none again. */
static void plain_goes_on(struct kill_run *run)
{
    CHECK(try_one(run) == SHM_NOT_NOW);
    kill_start_bystander(run, 0, late_sleeper);
    release(run);
    kill_bystander_ends(run, 0);
    CHECK(try_one(run) == SHM_NOT_NOW);
}

/* The unit is there, or went with the dead. */
static void plain_after_acquire(struct kill_run *run)
{
    uint32_t value = kill_word_at_death(run, 0);
    CHECK(value == 1 || run->point.kind != KILL_AT_BEGIN);
    CHECK(value == 0 || run->point.kind != KILL_AT_END);
    if (value)
        CHECK(try_one(run) == SHM_OK);
    plain_goes_on(run);
}

/* One unit for the victim, who is the first in line, and another sleeper. */
static void release_with_another_behind(struct kill_run *run)
{
    if (run->slept == 1)
        kill_start_bystander(run, 0, first_sleeper);
    release(run); /* once more if the other has looked again just then, and has it */
}

/* A unit that the dead did not take is found by who sleeps still. */
static void plain_after_waiting(struct kill_run *run)
{
    if (kill_word_at_death(run, 0) == 0)
        release(run);
    kill_bystander_ends(run, 0);
    while (try_one(run) == SHM_OK)
        ;
    plain_goes_on(run);
}

static void plain_after_release(struct kill_run *run)
{
    if (run->point.kind == KILL_AT_BEGIN) /* its first change is the commit */
        release(run);
    release(run);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    plain_goes_on(run);
}

/* --- a bounded one ---------------------------------------------------------------------------- */

static void bound(struct kill_run *run)
{
    store_relaxed(&run->notes->words[IS_BOUNDED], 1);
    bounded_of(run)->bound = UNITS;
}

static void bound_and_take_all(struct kill_run *run)
{
    bound(run);
    for (uint32_t i = 0; i < UNITS; i++)
        CHECK(try_one(run) == SHM_OK);
}

/* All units can be taken and no more; all can be given back and no more. */
static void bounded_goes_on(struct kill_run *run)
{
    CHECK(shm_bounded_value(&run->segment, bounded_of(run)) == UNITS);
    for (uint32_t i = 0; i < UNITS; i++)
        CHECK(try_one(run) == SHM_OK);
    CHECK(try_one(run) == SHM_NOT_NOW);
    kill_start_bystander(run, 0, late_sleeper);
    release(run);
    kill_bystander_ends(run, 0); /* and dies with it */
    CHECK(try_one(run) == SHM_OK);
    for (uint32_t i = 0; i < UNITS; i++)
        CHECK(give_one(run) == SHM_OK);
    CHECK(give_one(run) == SHM_FULL);
}

static void survivor_gives_all(struct kill_run *run)
{
    while (give_one(run) == SHM_OK)
        ;
}

static void give_to_another_behind(struct kill_run *run)
{
    if (run->slept > 1)
        return; /* the other looked again just then, and has it: it comes back when he ends */
    kill_start_bystander(run, 0, first_sleeper);
    release(run);
}

/* The other has it, whoever was woken for it and whoever took it first: it comes back. */
static void bounded_after_waiting(struct kill_run *run)
{
    kill_bystander_ends(run, 0);
    survivor_gives_all(run);
    bounded_goes_on(run);
}

static void take_both(struct kill_run *run)
{
    acquire(run);
    acquire(run);
}

/* Released, or come back: those who sleep have one each. */
static void bounded_after_release(struct kill_run *run)
{
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    bounded_goes_on(run);
}

/* --- a flag ----------------------------------------------------------------------------------- */

static struct shm_flag *flag_of(struct kill_run *run)
{
    return (struct shm_flag *)shm_body(&run->segment);
}

static void wait_for_flag(struct kill_run *run, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t seen = shm_flag_load(flag_of(run));
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (!shm_flag_was_set(flag_of(run), seen))
        CHECK(shm_flag_wait(flag_of(run), seen, &patience, &wait) == SHM_OK);
}

static void first_watcher(struct kill_run *run)
{
    kill_ready(run, 0);
    wait_for_flag(run, KILL_BYSTANDER_SLEEPS);
}

static void second_watcher(struct kill_run *run)
{
    kill_ready(run, 1);
    wait_for_flag(run, KILL_BYSTANDER_SLEEPS);
}

static void late_watcher(struct kill_run *run)
{
    kill_ready(run, 0);
    wait_for_flag(run, KILL_SLEEPS_ON);
}

static void wait_here(struct kill_run *run) { wait_for_flag(run, KILL_VICTIM_SLEEPS); }
static void set(struct kill_run *run) { shm_flag_set(flag_of(run)); }
static void clear(struct kill_run *run) { shm_flag_clear(flag_of(run)); }

static void set_and_clear(struct kill_run *run)
{
    set(run);
    clear(run);
}

static void flag_goes_on(struct kill_run *run)
{
    clear(run);
    kill_start_bystander(run, 0, late_watcher);
    set_and_clear(run); /* at once: he has been let go all the same */
    kill_bystander_ends(run, 0);
    CHECK(!(shm_flag_load(flag_of(run)) & SHM_FLAG_SET));
}

/* What was set is found without any help. */
static void flag_after_set(struct kill_run *run)
{
    bool was_set = kill_word_at_death(run, 0) != 0;
    CHECK(!was_set || run->point.kind != KILL_AT_BEGIN);
    CHECK(was_set || run->point.kind != KILL_AT_END);
    if (!was_set)
        set(run);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    flag_goes_on(run);
}

static void flag_after_waiting(struct kill_run *run)
{
    if (!run->slept)
        set(run);
    kill_bystander_ends(run, 0);
    flag_goes_on(run);
}

#define PLAIN .primitive = "semaphore", .body_size = sizeof(struct shm_semaphore)
#define BOUNDED .primitive = "bounded semaphore", .body_size = 3 * SHM_HOT + 32 * sizeof(shm_ledger)
#define FLAG .primitive = "event flag", .body_size = sizeof(struct shm_flag)

const struct kill_scenario kill_semaphore[] = {
    {PLAIN,
     .operation = "acquire, one is left",
     .who_dies = "who acquires",
     .others_see = "the unit, or it went with the dead",
     .set_up = one_unit,
     .victim = acquire,
     .check = plain_after_acquire},
    {PLAIN,
     .operation = "acquire, before another sleeper",
     .who_dies = "the first sleeper",
     .others_see = "the unit, or it went with the dead",
     .victim = acquire,
     .other_side = release_with_another_behind,
     .check = plain_after_waiting},
    {PLAIN,
     .operation = "release, two sleep",
     .who_dies = "who releases",
     .others_see = "a sleeper has the unit, or it was not released",
     .bystanders = {first_sleeper, second_sleeper},
     .victim = release,
     .check = plain_after_release},
    {BOUNDED,
     .operation = "acquire, some are left",
     .who_dies = "who acquires",
     .others_see = "all units are there",
     .set_up = bound,
     .victim = acquire,
     .check = bounded_goes_on},
    {BOUNDED,
     .operation = "acquire, before another sleeper",
     .who_dies = "the first sleeper",
     .others_see = "the other has the unit; all come back",
     .set_up = bound_and_take_all,
     .victim = acquire,
     .other_side = give_to_another_behind,
     .check = bounded_after_waiting},
    {BOUNDED,
     .operation = "release, two sleep",
     .who_dies = "who holds all and releases one",
     .others_see = "each sleeper has one; all come back",
     .set_up = bound,
     .bystanders = {first_sleeper, second_sleeper},
     .before = take_both,
     .victim = release,
     .check = bounded_after_release},
    {FLAG,
     .operation = "set, two wait",
     .who_dies = "who sets",
     .others_see = "who waits finds it set, or it was not set",
     .bystanders = {first_watcher, second_watcher},
     .victim = set,
     .check = flag_after_set},
    {FLAG,
     .operation = "set and clear, two wait",
     .who_dies = "who sets",
     .others_see = "who waits finds that it was set, or it was not set",
     .bystanders = {first_watcher, second_watcher},
     .victim = set_and_clear,
     .check = flag_after_set},
    {FLAG,
     .operation = "wait, behind another",
     .who_dies = "the second waiter",
     .others_see = "the other finds it set",
     .bystanders = {first_watcher},
     .victim = wait_here,
     .other_side = set,
     .check = flag_after_waiting},
    {0},
};
