/* Numbers: a change is there or not, and who waits for it finds out. */
#include "kill_driver.h"
#include "number.h"

static struct shm_number *number_of(struct kill_run *run)
{
    return (struct shm_number *)shm_body(&run->segment);
}

static void wait_for_change(struct kill_run *run, uint64_t seen, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (shm_number_load(number_of(run)) == seen)
        CHECK(shm_number_wait(number_of(run), seen, &patience, &wait) == SHM_OK);
}

static void first_waiter(struct kill_run *run)
{
    kill_ready(run, 0);
    wait_for_change(run, 0, KILL_BYSTANDER_SLEEPS);
}

static void second_waiter(struct kill_run *run)
{
    kill_ready(run, 1);
    wait_for_change(run, 0, KILL_BYSTANDER_SLEEPS);
}

static void late_waiter(struct kill_run *run)
{
    kill_ready(run, 0);
    wait_for_change(run, 7, KILL_SLEEPS_ON);
}

static void wait_here(struct kill_run *run) { wait_for_change(run, 0, KILL_VICTIM_SLEEPS); }

static void add(struct kill_run *run)
{
    uint64_t after;
    CHECK(shm_number_add(number_of(run), 3, true, &after));
}

static void goes_on(struct kill_run *run)
{
    shm_number_store(number_of(run), 7);
    kill_start_bystander(run, 0, late_waiter);
    add(run); /* a wake that is lost would leave him asleep */
    kill_bystander_ends(run, 0);
    CHECK(shm_number_load(number_of(run)) == 10);
}

static void after_adding(struct kill_run *run)
{
    uint64_t found = kill_word_at_death(run, 0);
    CHECK(found == 0 || found == 3);
    CHECK(found == 0 || run->point.kind != KILL_AT_BEGIN);
    CHECK(found == 3 || run->point.kind != KILL_AT_END);
    if (found == 0)
        add(run);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    goes_on(run);
}

static void after_waiting(struct kill_run *run)
{
    if (!run->slept)
        add(run);
    kill_bystander_ends(run, 0);
    goes_on(run);
}

#define NUMBER .primitive = "number", .body_size = sizeof(struct shm_number)

const struct kill_scenario kill_number[] = {
    {NUMBER,
     .operation = "add, two wait",
     .who_dies = "who adds",
     .others_see = "who waits finds the sum, or nothing was added",
     .bystanders = {first_waiter, second_waiter},
     .victim = add,
     .check = after_adding},
    {NUMBER,
     .operation = "wait, behind another",
     .who_dies = "the second waiter",
     .others_see = "the other finds the change",
     .bystanders = {first_waiter},
     .victim = wait_here,
     .other_side = add,
     .check = after_waiting},
    {0},
};
