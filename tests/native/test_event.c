/* No wake is lost between parkers and publishers, and a bit that nobody needs goes away. */
#include <limits.h>
#include <pthread.h>

#include "event.h"
#include "support.h"

#define ROUNDS 20000

static struct shm_event here, there;
static shm_atomic32 ball; /* odd: there, even: here */
static const struct shm_place futex = {0};

static void wait_until(struct shm_event *event, uint32_t value)
{
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, 0);
    while (load_acquire(&ball) != value) {
        shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
        uint32_t key = shm_event_prepare(event);
        if (load_acquire(&ball) == value)
            break;
        /* Woken, or the word had changed; a whole interval would be a lost wake. */
        CHECK(shm_park(&event->word, key, &futex, &patience, &wait) != SHM_TIMED_OUT);
    }
}

static void *return_the_ball(void *unused)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        wait_until(&there, 2 * i + 1);
        store_release(&ball, 2 * i + 2);
        shm_event_notify(&here, 1, &futex);
    }
    return unused;
}

static void ping_pong_without_spinning(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, return_the_ball, NULL) == 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        store_release(&ball, 2 * i + 1);
        shm_event_notify(&there, 1, &futex);
        wait_until(&here, 2 * i + 2);
    }
    pthread_join(thread, NULL);
}

static void a_vain_wake_clears_the_bit(void)
{
    struct shm_event event = {0};
    shm_event_prepare(&event); /* a parker that dies here */
    CHECK(shm_event_has_sleepers(&event));
    shm_event_notify(&event, 1, &futex);
    CHECK(!shm_event_has_sleepers(&event));
}

static void each_prepare_moves_the_epoch(void)
{
    struct shm_event event = {0};
    uint32_t first = shm_event_prepare(&event);
    uint32_t second = shm_event_prepare(&event);
    CHECK(first != second);
}

static void a_deadline_ends_a_sleep(void)
{
    struct shm_event event = {0};
    struct shm_patience patience;
    struct shm_wait wait;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, shm_now() + 1000000, SHM_RECHECK_MIN);
    uint32_t key = shm_event_prepare(&event);
    CHECK(shm_park(&event.word, key, &futex, &patience, &wait) == SHM_TIMED_OUT);
    CHECK(shm_park(&event.word, key + 2, &futex, &patience, &wait) == SHM_TIMED_OUT);
}

int main(void)
{
    ping_pong_without_spinning();
    a_vain_wake_clears_the_bit();
    each_prepare_moves_the_epoch();
    a_deadline_ends_a_sleep();
    return 0;
}
