#include "lock.h"

int shm_lock_try_held(const struct shm_segment *segment, struct shm_lock *lock, uint32_t claim)
{
    uint32_t seen = load_relaxed(&lock->word);
    while (seen == 0)
        if (compare_exchange(&lock->word, &seen, claim))
            return SHM_OK;
    if (shm_alive(segment, seen & SHM_IDENTITY))
        return SHM_LOCKED;
    /* The dead owner's sleepers are ours now. */
    uint32_t inherited = claim | (seen & SHM_SLEEPERS);
    if (!compare_exchange(&lock->word, &seen, inherited))
        return SHM_LOCKED; /* somebody else inherited it, and lives */
    store_relaxed(&lock->heir_of, seen & SHM_IDENTITY);
    store_relaxed(&lock->since, 0);
    return SHM_INHERITED;
}

bool shm_lock_spin(const struct shm_lock *lock, uint32_t ns)
{
    struct shm_spin spin = {0};
    do
        if (load_relaxed(&lock->word) == 0)
            return true;
    while (shm_keep_spinning(&spin, ns));
    return false;
}

/* The word with the bit set, or 0 if the lock became free first. */
static uint32_t announce_sleeper(struct shm_lock *lock)
{
    uint32_t word = load_relaxed(&lock->word);
    while (word && !(word & SHM_SLEEPERS))
        if (compare_exchange(&lock->word, &word, word | SHM_SLEEPERS))
            return word | SHM_SLEEPERS;
    return word;
}

static void stamp(struct shm_lock *lock)
{
    uint64_t never = 0;
    if (load_relaxed(&lock->since) == 0)
        compare_exchange(&lock->since, &never, shm_wall_clock());
}

int shm_lock_wait(const struct shm_segment *segment, struct shm_lock *lock,
                  const struct shm_place *place, struct shm_patience *patience,
                  struct shm_wait *wait)
{
    uint32_t budget = shm_spin_budget(patience);
    if (budget) {
        bool in_time = shm_lock_spin(lock, budget);
        shm_spun(patience, in_time);
        if (in_time)
            return SHM_OK;
    }
    uint32_t word = announce_sleeper(lock);
    if (word == 0 || !shm_alive(segment, word & SHM_IDENTITY))
        return SHM_OK;
    stamp(lock);
    int status = shm_park(&lock->word, word, place, patience, wait);
    if (patience->closed && *patience->closed)
        return SHM_CLOSED;
    if (status != SHM_TIMED_OUT)
        return status;
    return wait->deadline != SHM_NEVER && shm_now() >= wait->deadline ? SHM_TIMED_OUT : SHM_OK;
}
