/* The lock: one heir, told exactly if the dead held it; nobody hangs, nobody comes in twice. */
#include <semaphore.h>
#include <unistd.h>

#include "kill_driver.h"
#include "lock.h"
#include "mapping.h"

/* In the notes. */
enum {
    INSIDE = 0,       /* somebody is in the room that the lock guards */
    TOLD = 1,         /* and 2: what the bystanders' acquiring answered */
    ON_SEMAPHORE = 3, /* where to sleep */
    SEMAPHORE = 8,    /* and the words behind it */
};

static struct shm_lock *lock_of(struct kill_run *run)
{
    return (struct shm_lock *)shm_body(&run->segment);
}

static sem_t *semaphore_of(struct kill_run *run)
{
    _Static_assert(sizeof(sem_t) <= (KILL_WORDS - SEMAPHORE) * sizeof(shm_atomic32), "room");
    return (sem_t *)&run->notes->words[SEMAPHORE];
}

static struct shm_place place_of(struct kill_run *run)
{
    bool semaphore = load_relaxed(&run->notes->words[ON_SEMAPHORE]);
    return (struct shm_place){semaphore ? semaphore_of(run) : NULL};
}

/* SemaphoreLock's has a name, which makes no difference once it is open. */
static void use_semaphore(struct kill_run *run)
{
    store_relaxed(&run->notes->words[ON_SEMAPHORE], 1);
    CHECK(sem_init(semaphore_of(run), 1, 0) == 0);
    kill_watch(run, semaphore_of(run), sizeof(sem_t));
}

static bool dead_held(struct kill_run *run)
{
    return (kill_word_at_death(run, 0) & SHM_IDENTITY) == run->dead;
}

/* As the binding does it; the word's owner is whoever `run` is in this process. */
static int take(struct kill_run *run, uint64_t interval, uint64_t deadline)
{
    struct shm_place place = place_of(run);
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t claim = shm_me(&run->segment);
    int status;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, deadline, interval);
    while ((status = shm_lock_try(&run->segment, lock_of(run), claim)) == SHM_LOCKED) {
        status = shm_lock_wait(&run->segment, lock_of(run), &place, &patience, &wait);
        if (status == SHM_TIMED_OUT)
            return status;
        CHECK(status == SHM_OK);
        claim |= SHM_SLEEPERS;
    }
    return status;
}

static int give_back(struct kill_run *run)
{
    struct shm_place place = place_of(run);
    return shm_lock_release(lock_of(run), &place);
}

/* Holding the lock: nobody else is in the room. */
static void enter(struct kill_run *run) { CHECK(exchange(&run->notes->words[INSIDE], 1) == 0); }

static void leave(struct kill_run *run)
{
    CHECK(exchange(&run->notes->words[INSIDE], 0) == 1);
    CHECK(give_back(run) == SHM_OK);
}

static void wait_for_turn(struct kill_run *run, int index, uint64_t interval)
{
    kill_ready(run, index);
    int status = take(run, interval, SHM_NEVER);
    enter(run);
    store_relaxed(&run->notes->words[TOLD + index], (uint32_t)status);
    usleep(200);
    leave(run);
}

static void first_sleeper(struct kill_run *run) { wait_for_turn(run, 0, KILL_BYSTANDER_SLEEPS); }
static void second_sleeper(struct kill_run *run) { wait_for_turn(run, 1, KILL_BYSTANDER_SLEEPS); }
static void late_sleeper(struct kill_run *run) { wait_for_turn(run, 0, KILL_SLEEPS_ON); }

static bool was_told(struct kill_run *run, int index)
{
    return load_relaxed(&run->notes->words[TOLD + index]) == SHM_INHERITED;
}

/* The next one is told if he inherits, excludes others, and the one after him is not told. */
static void goes_on(struct kill_run *run, bool inherited)
{
    struct shm_lock *lock = lock_of(run);
    struct shm_segment other;
    bool last;
    join_beside(&other, &run->segment);
    int expected = inherited ? SHM_INHERITED : SHM_OK;
    CHECK(shm_lock_try(&run->segment, lock, shm_me(&run->segment)) == expected);
    CHECK(shm_lock_try(&other, lock, shm_me(&other)) == SHM_LOCKED);
    enter(run);
    kill_start_bystander(run, 0, late_sleeper);
    leave(run); /* his wake arrives */
    kill_bystander_ends(run, 0);
    CHECK(load_relaxed(&lock->word) == 0); /* no mark is left, whoever died asleep */
    CHECK(shm_lock_try(&other, lock, shm_me(&other)) == SHM_OK);
    CHECK(give_back(run) == SHM_OK);
    CHECK(give_back(run) == SHM_NOT_HELD);
    shm_leave(&other, NULL, &last);
    shm_unmap_private(other.self);
}

/* --- the victim acquires --------------------------------------------------------------------- */

static void acquire(struct kill_run *run)
{
    take(run, KILL_VICTIM_SLEEPS, SHM_NEVER);
}

static void begins_free_and_ends_held(struct kill_run *run)
{
    bool held = dead_held(run);
    CHECK(!held || run->point.kind != KILL_AT_BEGIN);
    CHECK(held || run->point.kind != KILL_AT_END);
    goes_on(run, held);
}

static void survivor_takes(struct kill_run *run)
{
    CHECK(shm_lock_try(&run->segment, lock_of(run), shm_me(&run->segment)) == SHM_OK);
    enter(run);
}

static void survivor_releases(struct kill_run *run)
{
    if (run->slept == 1)
        leave(run);
}

/* The survivor holds it until the victim has slept, and nobody has taken it from him till then. */
static void give_back_if_held(struct kill_run *run)
{
    if (run->slept)
        return;
    CHECK((load_relaxed(&lock_of(run)->word) & SHM_IDENTITY) == shm_me(&run->segment));
    leave(run);
}

static void after_contention(struct kill_run *run)
{
    CHECK(!dead_held(run) || run->slept);
    give_back_if_held(run);
    begins_free_and_ends_held(run);
}

static void give_up(struct kill_run *run)
{
    int status = take(run, KILL_VICTIM_SLEEPS, shm_now() + 60000000);
    CHECK(status == SHM_TIMED_OUT);
}

static void after_giving_up(struct kill_run *run)
{
    run->slept = 0; /* the survivor has held it all the time */
    give_back_if_held(run);
    goes_on(run, false);
}

/* One was asleep before the victim; he gets it, too, whoever was woken. */
static void after_two_waiters(struct kill_run *run)
{
    bool held = dead_held(run);
    give_back_if_held(run);
    kill_bystander_ends(run, 0);
    CHECK(held || !was_told(run, 0));
    /* The bystander came first, or inherited from the victim. */
    goes_on(run, held && !was_told(run, 0));
}

static void release_with_another_behind(struct kill_run *run)
{
    if (run->slept == 1) {
        kill_start_bystander(run, 0, first_sleeper);
        leave(run);
    }
}

static void after_being_woken_instead(struct kill_run *run)
{
    if (run->slept)
        after_two_waiters(run);
    else
        after_contention(run);
}

/* --- a dead owner ---------------------------------------------------------------------------- */

static void somebody_dies_with_it(struct kill_run *run)
{
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(shm_join(&run->segment, false) == SHM_OK);
        CHECK(shm_lock_try(&run->segment, lock_of(run), shm_me(&run->segment)) == SHM_OK);
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
}

/* Nobody gives it back, so whoever comes inherits: from the first, or from his heir. */
static void always_inherited(struct kill_run *run)
{
    CHECK(dead_held(run) || run->point.kind != KILL_AT_END);
    goes_on(run, true);
    CHECK((load_relaxed(&lock_of(run)->heir_of) == run->dead) == dead_held(run));
}

/* A bystander that holds it until he is killed, and another that sleeps for it. */
static void hold_for_ever(struct kill_run *run)
{
    CHECK(take(run, KILL_BYSTANDER_SLEEPS, SHM_NEVER) == SHM_OK);
    kill_ready(run, 0);
    pause();
}

static void kill_owner(struct kill_run *run) { kill_bystander_dies(run, 0); }

/* The sleeper inherits from the owner, or from the victim that has inherited before him.  Only a
 * victim that took it after the sleeper leaves one more heir. */
static void each_death_has_one_heir(struct kill_run *run)
{
    bool held = dead_held(run);
    kill_owner(run);
    kill_bystander_ends(run, 1);
    CHECK(was_told(run, 1));
    goes_on(run, held && load_relaxed(&lock_of(run)->heir_of) != run->dead);
}

/* --- the victim releases --------------------------------------------------------------------- */

static void hold(struct kill_run *run)
{
    CHECK(take(run, KILL_VICTIM_SLEEPS, SHM_NEVER) == SHM_OK);
}

static void release(struct kill_run *run) { CHECK(give_back(run) == SHM_OK); }

static void begins_held_and_ends_free(struct kill_run *run)
{
    bool held = dead_held(run);
    CHECK(held || run->point.kind != KILL_AT_BEGIN);
    CHECK(!held || run->point.kind != KILL_AT_END);
    goes_on(run, held);
}

/* Who slept gets it by himself; the first of them is told if the dead held it. */
static void sleepers_get_it(struct kill_run *run)
{
    bool held = dead_held(run);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    CHECK(was_told(run, 0) + was_told(run, 1) == held);
    goes_on(run, false);
}

static void survivor_takes_on_semaphore(struct kill_run *run)
{
    use_semaphore(run);
    survivor_takes(run);
}

#define LOCK .primitive = "lock", .body_size = sizeof(struct shm_lock)
#define TOLD_IF_HELD "the next one has it, and is told if the dead held it"
#define BOTH_GO_ON "each waiter has it in turn; the first is told if the dead held it"

const struct kill_scenario kill_lock[] = {
    {LOCK,
     .operation = "acquire, free",
     .who_dies = "who acquires",
     .others_see = TOLD_IF_HELD,
     .victim = acquire,
     .check = begins_free_and_ends_held},
    {LOCK,
     .operation = "acquire, held: sleeps",
     .who_dies = "who acquires",
     .others_see = "the owner keeps it; then " TOLD_IF_HELD,
     .set_up = survivor_takes,
     .victim = acquire,
     .other_side = survivor_releases,
     .check = after_contention},
    {LOCK,
     .operation = "acquire, held: sleeps on a semaphore",
     .who_dies = "who acquires",
     .others_see = "the owner keeps it; then " TOLD_IF_HELD,
     .set_up = survivor_takes_on_semaphore,
     .victim = acquire,
     .other_side = survivor_releases,
     .check = after_contention},
    {LOCK,
     .operation = "acquire, held: gives up",
     .who_dies = "who acquires",
     .others_see = "the owner keeps it; the next one has it, and is told nothing",
     .set_up = survivor_takes,
     .victim = give_up,
     .check = after_giving_up},
    {LOCK,
     .operation = "acquire, behind another waiter",
     .who_dies = "the second waiter",
     .others_see = BOTH_GO_ON,
     .set_up = survivor_takes,
     .bystanders = {first_sleeper},
     .victim = acquire,
     .other_side = survivor_releases,
     .check = after_two_waiters},
    {LOCK,
     .operation = "acquire, before another waiter",
     .who_dies = "the first waiter",
     .others_see = BOTH_GO_ON,
     .set_up = survivor_takes,
     .victim = acquire,
     .other_side = release_with_another_behind,
     .check = after_being_woken_instead},
    {LOCK,
     .operation = "acquire, owner dead",
     .who_dies = "the heir",
     .others_see = "the next one inherits, from him or the owner",
     .set_up = somebody_dies_with_it,
     .victim = acquire,
     .check = always_inherited},
    {LOCK,
     .operation = "acquire, owner dies meanwhile",
     .who_dies = "the owner, then a waiter",
     .others_see = "the other waiter inherits, from him or the owner",
     .bystanders = {hold_for_ever, second_sleeper},
     .victim = acquire,
     .other_side = kill_owner,
     .check = each_death_has_one_heir},
    {LOCK,
     .operation = "release",
     .who_dies = "the owner",
     .others_see = TOLD_IF_HELD,
     .before = hold,
     .victim = release,
     .check = begins_held_and_ends_free},
    {LOCK,
     .operation = "release, two sleep",
     .who_dies = "the owner",
     .others_see = BOTH_GO_ON,
     .bystanders = {first_sleeper, second_sleeper},
     .before = hold,
     .victim = release,
     .check = sleepers_get_it},
    {LOCK,
     .operation = "release, two sleep on a semaphore",
     .who_dies = "the owner",
     .others_see = BOTH_GO_ON,
     .set_up = use_semaphore,
     .bystanders = {first_sleeper, second_sleeper},
     .before = hold,
     .victim = release,
     .check = sleepers_get_it},
    {0},
};
