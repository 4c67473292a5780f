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
