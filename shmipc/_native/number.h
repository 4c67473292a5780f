/* A 64-bit number that processes share, and on whose change they wait.
 *
 * Edge G: who sees a number sees what was done before it was stored.  Every change is one store or
 * one compare-and-swap.  The bits are two's complement; signed or not is what the caller makes of
 * them. */
#ifndef SHMIPC_NUMBER_H
#define SHMIPC_NUMBER_H

#include <limits.h>

#include "event.h"

static inline uint64_t shm_number_load(const struct shm_number *number)
{
    return load_acquire(&number->value); /* G */
}

static inline void shm_number_tell(struct shm_number *number)
{
    static const struct shm_place futex = {0};
    shm_event_notify(&number->event, INT_MAX, &futex);
}

static inline void shm_number_store(struct shm_number *number, uint64_t value)
{
    store_release(&number->value, value); /* G */
    shm_number_tell(number);
}

/* Answers what was there. */
static inline uint64_t shm_number_exchange(struct shm_number *number, uint64_t value)
{
    uint64_t before = exchange(&number->value, value); /* G */
    shm_number_tell(number);
    return before;
}

static inline bool shm_number_compare_exchange(struct shm_number *number, uint64_t expected,
                                               uint64_t desired)
{
    if (!compare_exchange(&number->value, &expected, desired)) /* G */
        return false;
    shm_number_tell(number);
    return true;
}

/* Adds to it; `*after` is the sum.  False, and nothing has changed, if that is out of range. */
bool shm_number_add(struct shm_number *number, int64_t amount, bool is_signed, uint64_t *after);

/* Waits while it is `seen`, sleeping once at the most, as shm_event_wait does.  A change that has been
 * undone when he looks is not seen. */
int shm_number_wait(struct shm_number *number, uint64_t seen, struct shm_patience *patience,
                    struct shm_wait *wait);
bool shm_number_spin(const struct shm_number *number, uint64_t seen, uint32_t ns);

#endif
