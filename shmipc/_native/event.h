/* An event count: how one side of a ring (or a joiner) sleeps until the other has published.
 *
 * The word is an epoch (bits 1..31) and, in bit 0, "somebody may sleep".
 *
 *   who parks                                  who publishes
 *   P1  sees that there is nothing to do       Q1  stores what it publishes
 *   P2  moves the epoch on AND sets the bit,   Q2  fence                             (C)
 *       by compare-and-swap                    Q3  reads the word; no bit: done
 *   P3  fence                            (C)   Q4  moves the epoch on, keeping the bit
 *   P4  looks again                            Q5  wakes
 *   P5  sleeps while the word is as P2 left it Q6  nobody was there: clears the bit, by
 *                                                  compare-and-swap from the word of Q4
 *
 * No wake is lost.  Edge C: of the two fences one comes first.  If Q2 does, P4 sees what was
 * published.  If P3 does, Q3 sees the bit, and Q4 changes the word, so that P5 either does not
 * begin or is woken by Q5.  That leaves Q6, which takes away a bit that a parker may rely on: it
 * succeeds only if the word is still that of Q4, hence no P2 has come since Q4 (each moves the
 * epoch); and a parker whose P2 came before Q4 finds the word changed at P5.  A parker that would
 * leave a set bit alone instead of moving the epoch could rely on a bit that Q6 then clears.
 *
 * A publisher that dies after Q1 leaves its wake undone: the sleeper looks again after its
 * interval.  A sleeper that dies leaves at most a set bit: one vain wake clears it.  The epoch
 * wraps after 2^31 moves, which would have to fall between P2 and P5 of one parker. */
#ifndef SHMIPC_EVENT_H
#define SHMIPC_EVENT_H

#include "layout.h"
#include "waiting.h"

#define SHM_EVENT_SLEEPERS 1u
#define SHM_EVENT_STEP 2u

/* P2 and P3.  The answer is what to give to shm_park. */
static inline uint32_t shm_event_prepare(struct shm_event *event)
{
    uint32_t word = load_relaxed(&event->word), key;
    do
        key = (word + SHM_EVENT_STEP) | SHM_EVENT_SLEEPERS;
    while (!compare_exchange(&event->word, &word, key));
    fence_full();
    return key;
}

/* Q3, for the caller that has published and fenced. */
static inline bool shm_event_has_sleepers(struct shm_event *event)
{
    return load_relaxed(&event->word) & SHM_EVENT_SLEEPERS;
}

/* Q4 to Q6. */
void shm_event_wake(struct shm_event *event, uint32_t count, const struct shm_place *place);

/* Q2 to Q6. */
static inline void shm_event_notify(struct shm_event *event, uint32_t count,
                                    const struct shm_place *place)
{
    fence_full();
    if (shm_event_has_sleepers(event))
        shm_event_wake(event, count, place);
}

/* Whether what a waiter waits for is there; `what` is the waiter's own. */
typedef bool (*shm_ready)(const void *what);

/* Spins as long as `patience` has it, then sleeps once at the most: SHM_OK when it is ready, or worth
 * a look (it is then that the dead are found); else SHM_TIMED_OUT, SHM_INTERRUPTED, SHM_CLOSED.
 * Takes nothing, so it may run without the interpreter's lock. */
int shm_event_wait(struct shm_event *event, shm_ready ready, const void *what,
                   struct shm_patience *patience, struct shm_wait *wait);

/* The spinning alone, for at most `ns`. */
bool shm_spin_until(shm_ready ready, const void *what, uint32_t ns);

#endif
