/* Semaphores: units that are taken and given back, by anybody.
 *
 * A plain one is a value.  Its units are nobody's, so those of the dead do not come back, as with
 * POSIX.  A bounded one knows who has how many: what is left is the bound less the sum of the
 * ledger, and the dead drop out of that.
 *
 * Edge G: who takes a unit sees what was done before it was given back.  Commit: the value, or the
 * own word in the ledger.  The guard of a bounded one keeps two from taking the last unit at once;
 * nothing that it protects can be half done, so its heir is not told.  Giving back needs no guard: it
 * only makes the sum smaller, and so do deaths; whoever reads it too large refuses, and is woken.
 *
 * No wake is lost to a sum that is no snapshot: a waiter that sees a unit as taken at P4 (event.h)
 * has read that word before its release, whose fence then comes after his, and sees his bit. */
#ifndef SHMIPC_SEMAPHORES_H
#define SHMIPC_SEMAPHORES_H

#include "event.h"
#include "ledger.h"
#include "lock.h"

/* SHM_OK, or SHM_NOT_NOW. */
static inline int shm_semaphore_try(struct shm_semaphore *semaphore)
{
    uint32_t value = load_relaxed(&semaphore->value);
    while (value)
        if (compare_exchange(&semaphore->value, &value, value - 1)) /* G */
            return SHM_OK;
    return SHM_NOT_NOW;
}

/* SHM_OK, or SHM_FULL at SHM_SEMAPHORE_MAX. */
int shm_semaphore_release(struct shm_semaphore *semaphore);

/* Somebody was woken for a unit that he will not take: wakes another. */
void shm_semaphore_pass_on(struct shm_semaphore *semaphore);

int shm_semaphore_wait(struct shm_semaphore *semaphore, struct shm_patience *patience,
                       struct shm_wait *wait);
bool shm_semaphore_spin(const struct shm_semaphore *semaphore, uint32_t ns);

/* --- with a bound --- */

uint64_t shm_bounded_size(uint32_t slot_count);

/* Units left, when the dead are counted out. */
uint32_t shm_bounded_value(const struct shm_segment *segment, struct shm_bounded *bounded);

/* SHM_OK, SHM_NOT_NOW, or SHM_LOCKED while somebody else is at the guard.  Before it refuses, it
 * asks the kernel whether who has the units lives. */
int shm_bounded_try(const struct shm_segment *segment, struct shm_bounded *bounded);

/* One of mine, or else of anybody's who lives.  SHM_OK, or SHM_FULL: nobody has any. */
int shm_bounded_release(const struct shm_segment *segment, struct shm_bounded *bounded);

void shm_bounded_pass_on(const struct shm_segment *segment, struct shm_bounded *bounded);

/* As shm_event_wait; it knows nothing of deaths, which the next try looks for. */
int shm_bounded_wait(const struct shm_segment *segment, struct shm_bounded *bounded,
                     struct shm_patience *patience, struct shm_wait *wait);

#endif
