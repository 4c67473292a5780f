#include "event.h"

void shm_event_wake(struct shm_event *event, uint32_t count, const struct shm_place *place)
{
    uint32_t word = load_relaxed(&event->word), moved;
    do {
        if (!(word & SHM_EVENT_SLEEPERS))
            return; /* another publisher found nobody, after we saw the bit */
        moved = word + SHM_EVENT_STEP;
    } while (!compare_exchange(&event->word, &word, moved));

    if (!shm_unpark(&event->word, count, place))
        compare_exchange(&event->word, &moved, moved & ~SHM_EVENT_SLEEPERS);
}

bool shm_spin_until(shm_ready ready, const void *what, uint32_t ns)
{
    struct shm_spin spin = {0};
    do
        if (ready(what))
            return true;
    while (shm_keep_spinning(&spin, ns));
    return false;
}

static bool spin_patiently(shm_ready ready, const void *what, struct shm_patience *patience)
{
    uint32_t budget = shm_spin_budget(patience);
    if (!budget)
        return ready(what);
    bool in_time = shm_spin_until(ready, what, budget);
    shm_spun(patience, in_time);
    return in_time;
}

int shm_event_wait(struct shm_event *event, shm_ready ready, const void *what,
                   struct shm_patience *patience, struct shm_wait *wait)
{
    static const struct shm_place futex = {0};
    if (spin_patiently(ready, what, patience))
        return SHM_OK;
    uint32_t key = shm_event_prepare(event);
    if (ready(what))
        return SHM_OK;
    return shm_wait_is_over(shm_park(&event->word, key, &futex, patience, wait), patience, wait);
}
