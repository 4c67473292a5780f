/* A lock in one 32-bit word that outlives its owner.
 *
 *   0                        free
 *   identity                 held by that participant
 *   identity | SLEEPERS      held, and somebody may sleep on the word
 *
 * Taking it free is one compare-and-swap, giving it back one exchange (edge B: what was done under
 * the lock is seen by the next holder).  A process that dies holding it leaves its identity in the
 * word; whoever would have to wait or to fail asks the kernel whether that participant lives, and
 * if not, swaps the dead identity for his own.  Only one can succeed, because the swap is from
 * exactly that word, and the generation in it never comes back.
 *
 * Sleepers.  Who sleeps first sets the bit; who comes back from sleep takes the lock with the bit
 * set, because he cannot know whether others sleep still.  One vain wake is the price of the last
 * one.  So a set bit is never lost while somebody sleeps: a release sees it, and wakes one.  A
 * releaser that dies between exchange and wake, or a sleeper that dies woken, leaves the others to
 * their next re-check.
 *
 * The word belongs to a process, not to a thread; what must be told apart within a process
 * (RLock) stands beside it.  So does what people ask for: who, since when, how often.  The ring's
 * own locks leave all that alone.
 *
 * Two flags change what a death means.  SHM_LOCK_RAISES: a dead owner's lock is refused to
 * everybody, until somebody recovers it.  SHM_LOCK_IS_LENT: nobody is asked whether the owner
 * lives, because he may have left the release to another. */
#ifndef SHMIPC_LOCK_H
#define SHMIPC_LOCK_H

#include "participants.h"
#include "process.h"
#include "waiting.h"

/* Takes it if it is free.  If not, nobody is asked whether the owner lives: for one who will wait,
 * and ask before he sleeps. */
static inline bool shm_lock_take(struct shm_lock *lock, uint32_t claim)
{
    uint32_t free = 0;
    return compare_exchange(&lock->word, &free, claim); /* B */
}

/* Slow half of shm_lock_try: somebody had it a moment ago. */
int shm_lock_try_held(const struct shm_segment *segment, struct shm_lock *lock, uint32_t claim);

/* Takes the lock if it is free (SHM_OK) or its owner dead (SHM_INHERITED); else SHM_LOCKED, or
 * SHM_OWNER_DIED if it has to be recovered first.
 * `claim` is shm_me(), with SHM_SLEEPERS if the caller has slept for it. */
static inline int shm_lock_try(const struct shm_segment *segment, struct shm_lock *lock,
                               uint32_t claim)
{
    return shm_lock_take(lock, claim) ? SHM_OK : shm_lock_try_held(segment, lock, claim);
}

/* Gives it back, whoever holds it.  SHM_NOT_HELD if nobody does. */
static inline int shm_lock_release(struct shm_lock *lock, const struct shm_place *place)
{
    if (load_relaxed(&lock->word) & SHM_SLEEPERS)
        store_relaxed(&lock->since, 0);
    uint32_t word = exchange(&lock->word, 0); /* B */
    if (word & SHM_SLEEPERS)
        shm_unpark(&lock->word, 1, place);
    return word ? SHM_OK : SHM_NOT_HELD;
}

/* The same for a guard: a lock for a few steps, to which who has slept comes back without the bit,
 * or does not come back at all, because he finds before it that there is nothing to do.  Nobody
 * would restore the bit for those who sleep on, so all are woken. */
void shm_lock_release_guard(struct shm_lock *lock, const struct shm_place *place);

/* Makes a dead owner's lock free again (`claim` 0), or the claimant's, whatever the flags say:
 * SHM_OK, or SHM_NOT_HELD if its owner lives or there is none. */
int shm_lock_recover(const struct shm_segment *segment, struct shm_lock *lock, uint32_t claim,
                     const struct shm_place *place);

/* What stands beside the word of a lock just taken, for people and for RLock. */
static inline void shm_lock_sign(struct shm_lock *lock)
{
    store_relaxed(&lock->holder, shm_this_thread());
    store_relaxed(&lock->acquisitions, load_relaxed(&lock->acquisitions) + 1);
}

/* And for one that had to wait for it, from `begin` (shm_now) on, and slept `parks` times. */
void shm_lock_count_wait(struct shm_lock *lock, uint64_t begin, uint64_t parks);

/* Waits, sleeping once at the most, until it may be worth to try again: SHM_OK.  Takes nothing,
 * so it may run without the interpreter's lock while other threads use the same handle.  After it,
 * claim with SHM_SLEEPERS. */
int shm_lock_wait(const struct shm_segment *segment, struct shm_lock *lock,
                  const struct shm_place *place, struct shm_patience *patience,
                  struct shm_wait *wait);

/* Spins, for at most `ns`, until it has taken the lock; with `claim` 0, until the lock looks free.
 *
 * Who takes it as soon as it is free has a chance against a holder that takes it again and again,
 * because he asks nobody in between whether the holder lives. */
bool shm_lock_spin(struct shm_lock *lock, uint32_t claim, uint32_t ns);

#endif
