/* A barrier: so many parties meet, and go on together.
 *
 *   FILLING -> ACTING -> LEAVING -> FILLING     the last one runs the action; without one, ACTING
 *      \          \                              is left out
 *       +----------+-> BROKEN     a party's timeout, an abort, a dead party
 *       +----------+-> RESETTING -> FILLING
 *
 * Each change is one compare-and-swap of the phase word, from exactly what was seen.  The ledger says
 * who has arrived and not left.  Nobody arrives while the last round leaves, so whoever finds the
 * barrier LEAVING after he arrived has met the others.  Whoever finds nobody left there, alive,
 * begins the next round: one who dies on his way out holds nobody up.  One who dies before all have met
 * breaks the barrier, as soon as somebody asks: who arrives, and sleepers when they look again.
 *
 * In the ledger of a FILLING barrier stands only who came for this round, dead or alive; that is how a
 * death is found, also when the slot has a new owner.  So the words of those who died on their way
 * out are dropped before the phase is FILLING, and none is dropped after: both by doing it under the
 * guard, without which nobody arrives.  Who leaves as the last may find the guard taken, and goes;
 * its holder looks, after he has released it, whether somebody has left (edge I: the word of who
 * leaves, fence, the guard, against the guard, fence, the words: one of the two sees).
 *
 * The guard also keeps two from arriving as the same number.  Under it stands one store, or a few
 * drops of the dead before it, so its heir need not know.  Edge G: who leaves sees what all did
 * before they arrived.
 *
 * A time-out breaks it only while it fills.  Whose time is up while the last one acts has met the
 * others, and waits for the action without a limit. */
#ifndef SHMIPC_BARRIER_H
#define SHMIPC_BARRIER_H

#include "ledger.h"
#include "lock.h"

uint64_t shm_barrier_size(uint32_t slot_count);

/* SHM_OK: arrived, as number `*index`.  The last, number parties - 1, finds the barrier ACTING if he
 * `acts`, and has to finish.  SHM_NOT_NOW: the last round is leaving still.  SHM_BROKEN_OFF.
 * SHM_LOCKED: somebody is at the guard. */
int shm_barrier_arrive(const struct shm_segment *segment, struct shm_barrier *barrier, bool acts,
                       uint32_t *index);

/* The action is done: the others may go.  SHM_BROKEN_OFF if they have given up meanwhile. */
int shm_barrier_finish(struct shm_barrier *barrier);

/* How it stands for one who has arrived: SHM_OK, they have met; SHM_BROKEN_OFF; SHM_NOT_NOW. */
int shm_barrier_look(const struct shm_barrier *barrier);

/* Waits, sleeping once at the most: `arrived`, until the others have come or will not; else until the
 * last round has left.  Looks for the dead before it sleeps. */
int shm_barrier_wait(const struct shm_segment *segment, struct shm_barrier *barrier,
                     bool arrived, struct shm_patience *patience, struct shm_wait *wait);

bool shm_barrier_spin(const struct shm_barrier *barrier, uint32_t ns);

/* One who arrived goes; the last one opens it for the next round.  Nothing, if this process has left
 * the segment meanwhile: then it counts as dead. */
void shm_barrier_leave(const struct shm_segment *segment, struct shm_barrier *barrier);

void shm_barrier_abort(struct shm_barrier *barrier);
void shm_barrier_reset(const struct shm_segment *segment, struct shm_barrier *barrier);

/* A party's time is up: breaks it, unless they have all met. */
void shm_barrier_time_out(struct shm_barrier *barrier);

/* Breaks it if somebody arrived and died. */
bool shm_barrier_is_broken(const struct shm_segment *segment, struct shm_barrier *barrier);

/* How many have arrived and not met. */
uint32_t shm_barrier_waiting(const struct shm_segment *segment, struct shm_barrier *barrier);

void shm_barrier_wake_all(struct shm_barrier *barrier);

#endif
