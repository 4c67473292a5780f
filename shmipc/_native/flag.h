/* An Event: a flag that is set and cleared, and on which any number wait.
 *
 * It also counts how often it was set, so that one that is cleared at once has still let go everybody
 * who waited.  Edge G: who sees it set sees what was done before it was set.  Setting is one
 * compare-and-swap; the wake after it is the event count's, so one who dies between the two delays
 * the sleepers until they look again.
 *
 * One that is set already is set again, by the same compare-and-swap.  Only to look at it would be a
 * load after the caller's store of what he signals, and the two may change places: who clears the flag
 * and then looks for work could miss both the work and the flag. */
#ifndef SHMIPC_FLAG_H
#define SHMIPC_FLAG_H

#include "event.h"

#define SHM_FLAG_SET 1u
#define SHM_FLAG_TIME 2u

static inline uint32_t shm_flag_load(const struct shm_flag *flag)
{
    return load_acquire(&flag->word); /* G */
}

void shm_flag_set(struct shm_flag *flag);
void shm_flag_clear(struct shm_flag *flag);

/* Whether it is set, or has been since it was `seen`. */
static inline bool shm_flag_was_set(const struct shm_flag *flag, uint32_t seen)
{
    uint32_t word = shm_flag_load(flag);
    return word & SHM_FLAG_SET || word != seen;
}

/* Waits for that, sleeping once at the most, as shm_event_wait does. */
int shm_flag_wait(struct shm_flag *flag, uint32_t seen, struct shm_patience *patience,
                  struct shm_wait *wait);
bool shm_flag_spin(const struct shm_flag *flag, uint32_t seen, uint32_t ns);

#endif
