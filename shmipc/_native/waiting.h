/* Clocks, spinning and sleeping: the one native file, beside mapping.h, that knows the system.
 *
 * A process sleeps on a 32-bit word that has a value it has seen, until somebody who changed the
 * word wakes it, a signal comes, or an interval is over.  The interval is not a tuning knob but
 * part of the promise: a process that dies between its commit and its wake delays a sleeper by
 * one interval and never hangs it (law 3).  So no sleep here is longer than SHM_RECHECK_MAX. */
#ifndef SHMIPC_WAITING_H
#define SHMIPC_WAITING_H

#include <semaphore.h>

#include "atomics.h"
#include "status.h"

#define SHM_NEVER UINT64_MAX
#define SHM_RECHECK_MIN 100000000ull  /* 0.1 s, doubled by each sleep in vain, */
#define SHM_RECHECK_MAX 1000000000ull /* up to 1 s */
#define SHM_RECHECK_SOON 1000000ull   /* 1 ms, where a wake may have been saved on purpose */

#define SHM_SPIN_ADAPTIVE UINT32_MAX
#define SHM_SPIN_LEAST 2000u /* ns; what a spinner that never has luck still tries */
#define SHM_SPIN_MOST 50000u /* ns; about what a sleep and a wake cost */

/* Where a handle sleeps: on the word itself, or on a posix semaphore in its stead. */
struct shm_place {
    sem_t *semaphore; /* NULL: the futex */
};

/* Opens the named semaphore to sleep on: SHM_E_OS if that fails. */
int shm_place_open(struct shm_place *place, const char *name);
void shm_place_close(struct shm_place *place);

/* How a handle waits, and what its waits have cost so far.  Local to the process. */
struct shm_patience {
    uint32_t spin;     /* ns; SHM_SPIN_ADAPTIVE, or fixed */
    uint32_t adaptive; /* ns; what the adaptive budget is now */
    uint32_t seed;     /* of the jitter */
    uint64_t spins, parks, wakes;
    volatile int *closed; /* set by close() while threads wait; may be NULL */
};

/* One wait, over as many calls as signals make of it. */
struct shm_wait {
    uint64_t deadline; /* monotonic ns, or SHM_NEVER */
    uint64_t interval; /* of the next sleep */
    uint64_t parks;    /* so far */
};

uint64_t shm_now(void);        /* monotonic, ns */
uint64_t shm_now_coarse(void); /* the same to a few ms, for little */
uint64_t shm_wall_clock(void); /* since 1970, ns */

void shm_patience_init(struct shm_patience *patience, uint32_t spin);
void shm_wait_init(struct shm_wait *wait, uint64_t deadline, uint64_t interval);

/* One spin: `do look; while (shm_keep_spinning(&spin, ns));`.  The clock is read at every 16th
 * look only: a look costs a pause of some 40 ns, a clock about as much. */
struct shm_spin {
    uint32_t looks;
    uint64_t end;
};

bool shm_keep_spinning(struct shm_spin *spin, uint32_t ns);

/* How long to spin now; what came of it goes back through shm_spun. */
uint32_t shm_spin_budget(const struct shm_patience *patience);
void shm_spun(struct shm_patience *patience, bool in_time);

/* Sleeps while *word == seen: SHM_OK when woken or the word had changed, SHM_TIMED_OUT after the
 * interval (the deadline if that is sooner), SHM_INTERRUPTED on a signal. */
int shm_park(shm_atomic32 *word, uint32_t seen, const struct shm_place *place,
             struct shm_patience *patience, struct shm_wait *wait);

/* What a sleep that ended with `status` means for the whole wait: an interval that is over is only
 * a reason to look again, SHM_OK. */
int shm_wait_is_over(int status, const struct shm_patience *patience, const struct shm_wait *wait);

/* Wakes up to `count` sleepers.  False when the system knows that nobody was there. */
bool shm_unpark(shm_atomic32 *word, uint32_t count, const struct shm_place *place);

#endif
