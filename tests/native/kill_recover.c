/* A lock that refuses a dead owner's successor until somebody recovers it. */
#include <unistd.h>

#include "kill_driver.h"
#include "lock.h"

static const struct shm_place futex = {0};

static struct shm_lock *lock_of(struct kill_run *run)
{
    return (struct shm_lock *)shm_body(&run->segment);
}

static int try_it(struct kill_run *run)
{
    return shm_lock_try(&run->segment, lock_of(run), shm_me(&run->segment));
}

static int recover_for(struct kill_run *run, uint32_t claim)
{
    return shm_lock_recover(&run->segment, lock_of(run), claim, &futex);
}

static void somebody_dies_with_it(struct kill_run *run)
{
    lock_of(run)->flags = SHM_LOCK_RAISES;
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(shm_join(&run->segment, false) == SHM_OK);
        CHECK(try_it(run) == SHM_OK);
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
}

static void free_it(struct kill_run *run) { CHECK(recover_for(run, 0) == SHM_OK); }

static void make_it_mine(struct kill_run *run)
{
    CHECK(recover_for(run, shm_me(&run->segment)) == SHM_OK);
}

static void has_to_be_recovered(struct kill_run *run)
{
    CHECK(try_it(run) == SHM_OWNER_DIED);
    CHECK(try_it(run) == SHM_OWNER_DIED); /* whoever asks, until then */
    free_it(run);
}

static void goes_on(struct kill_run *run)
{
    CHECK(recover_for(run, 0) == SHM_NOT_HELD);
    CHECK(try_it(run) == SHM_OK);
    CHECK(recover_for(run, 0) == SHM_NOT_HELD);
    CHECK(shm_lock_release(lock_of(run), &futex) == SHM_OK);
}

static void is_free_or_refused(struct kill_run *run)
{
    bool held = kill_word_at_death(run, 0) != 0;
    CHECK(held || run->point.kind != KILL_AT_BEGIN);
    CHECK(!held || run->point.kind != KILL_AT_END);
    if (held)
        has_to_be_recovered(run);
    goes_on(run);
}

static void is_refused(struct kill_run *run)
{
    has_to_be_recovered(run);
    goes_on(run);
}

#define LOCK .primitive = "lock", .body_size = sizeof(struct shm_lock)

const struct kill_scenario kill_recover[] = {
    {LOCK,
     .operation = "recover, to free it",
     .who_dies = "who recovers",
     .others_see = "it is free, or refused until it is recovered",
     .set_up = somebody_dies_with_it,
     .victim = free_it,
     .check = is_free_or_refused},
    {LOCK,
     .operation = "recover, to have it",
     .who_dies = "who recovers",
     .others_see = "it is refused until it is recovered",
     .set_up = somebody_dies_with_it,
     .victim = make_it_mine,
     .check = is_refused},
    {0},
};
