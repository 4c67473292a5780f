/* The event count: what was published is found, by itself or by the next wake, and wakes arrive. */
#include <limits.h>

#include "event.h"
#include "kill_driver.h"

/* The body: the event, and on a line of its own what is published. */
#define BALL SHM_HOT

static const struct shm_place futex = {0};

static struct shm_event *event_of(struct kill_run *run)
{
    return (struct shm_event *)shm_body(&run->segment);
}

static shm_atomic32 *ball_of(struct kill_run *run)
{
    return (shm_atomic32 *)(shm_body(&run->segment) + BALL);
}

static void publish(struct kill_run *run, uint32_t ball, uint32_t wakes)
{
    store_release(ball_of(run), ball);
    shm_event_notify(event_of(run), wakes, &futex);
}

static void wait_for_ball(struct kill_run *run, uint32_t ball, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (load_acquire(ball_of(run)) < ball) {
        uint32_t key = shm_event_prepare(event_of(run));
        if (load_acquire(ball_of(run)) >= ball)
            return;
        shm_park(&event_of(run)->word, key, &futex, &patience, &wait);
    }
}

static void sleep_till_found(struct kill_run *run, int index)
{
    kill_ready(run, index);
    wait_for_ball(run, 1, KILL_BYSTANDER_SLEEPS);
}

static void first_sleeper(struct kill_run *run) { sleep_till_found(run, 0); }
static void second_sleeper(struct kill_run *run) { sleep_till_found(run, 1); }

static void sleep_till_woken(struct kill_run *run)
{
    kill_ready(run, 0);
    wait_for_ball(run, 2, KILL_SLEEPS_ON);
}

/* A wake finds who sleeps, whatever marks the dead have left, and the last mark goes. */
static void goes_on(struct kill_run *run)
{
    kill_start_bystander(run, 0, sleep_till_woken);
    publish(run, 2, 1);
    kill_bystander_ends(run, 0);
    publish(run, 3, 1); /* in vain */
    CHECK(!shm_event_has_sleepers(event_of(run)));
}

/* --- the victim waits ------------------------------------------------------------------------ */

static void wait_here(struct kill_run *run) { wait_for_ball(run, 1, KILL_VICTIM_SLEEPS); }

static void survivor_publishes(struct kill_run *run) { publish(run, 1, 1); }

/* There is one wake, and the victim is the first in line for it. */
static void publish_with_another_behind(struct kill_run *run)
{
    if (run->slept == 1) {
        kill_start_bystander(run, 0, first_sleeper);
        publish(run, 1, 1);
    }
}

static void the_other_wakes(struct kill_run *run)
{
    if (!run->slept)
        publish(run, 1, 1);
    kill_bystander_ends(run, 0);
    goes_on(run);
}

/* --- the victim publishes -------------------------------------------------------------------- */

static void publish_to_all(struct kill_run *run) { publish(run, 1, INT_MAX); }

/* Somebody has died between announcing himself and sleeping. */
static void leave_a_mark(struct kill_run *run) { shm_event_prepare(event_of(run)); }

/* What was published is found without any help. */
static void what_is_there_is_found(struct kill_run *run)
{
    bool published = kill_word_at_death(run, BALL) == 1;
    CHECK(!published || run->point.kind != KILL_AT_BEGIN);
    CHECK(published || run->point.kind != KILL_AT_END);
    if (!published)
        publish(run, 1, INT_MAX);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    goes_on(run);
}

#define EVENT .primitive = "event", .body_size = 2 * SHM_HOT
#define FOUND "who waits finds what was published before the death; later wakes arrive"

const struct kill_scenario kill_event[] = {
    {EVENT,
     .operation = "wait, behind another sleeper",
     .who_dies = "the second sleeper",
     .others_see = FOUND,
     .bystanders = {first_sleeper},
     .victim = wait_here,
     .other_side = survivor_publishes,
     .check = the_other_wakes},
    {EVENT,
     .operation = "wait, before another sleeper",
     .who_dies = "the first sleeper",
     .others_see = FOUND,
     .victim = wait_here,
     .other_side = publish_with_another_behind,
     .check = the_other_wakes},
    {EVENT,
     .operation = "publish, nobody sleeps",
     .who_dies = "the publisher",
     .others_see = FOUND,
     .victim = publish_to_all,
     .check = what_is_there_is_found},
    {EVENT,
     .operation = "publish, two sleep",
     .who_dies = "the publisher",
     .others_see = FOUND,
     .bystanders = {first_sleeper, second_sleeper},
     .victim = publish_to_all,
     .check = what_is_there_is_found},
    {EVENT,
     .operation = "publish, only a dead sleeper's mark is there",
     .who_dies = "the publisher",
     .others_see = FOUND,
     .set_up = leave_a_mark,
     .victim = publish_to_all,
     .check = what_is_there_is_found},
    {0},
};
