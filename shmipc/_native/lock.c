#include "lock.h"

#include <limits.h>

/* From exactly the word seen, so that one of many succeeds; `seen` is what is there if it does not.
 * The dead owner's sleepers are ours now. */
static bool take_over(struct shm_lock *lock, uint32_t *seen, uint32_t claim)
{
    uint64_t since = load_relaxed(&lock->since);
    uint32_t dead = *seen & SHM_IDENTITY;
    if (!compare_exchange(&lock->word, seen, claim ? claim | (*seen & SHM_SLEEPERS) : 0))
        return false;
    store_relaxed(&lock->heir_of, dead);
    store_relaxed(&lock->dead_since, since);
    store_relaxed(&lock->since, 0);
    fetch_add(&lock->deaths, 1);
    return true;
}

/* Whoever is named in the word wrote that name into his slot first; the acquire lets us see it.  A
 * word that has changed may have got an heir, or only a sleeper's bit: it is looked at anew. */
int shm_lock_try_held(const struct shm_segment *segment, struct shm_lock *lock, uint32_t claim)
{
    uint32_t seen = load_acquire(&lock->word);
    while (true) {
        if (seen == 0) {
            if (compare_exchange(&lock->word, &seen, claim))
                return SHM_OK;
            continue;
        }
        if (lock->flags & SHM_LOCK_IS_LENT || shm_alive(segment, seen & SHM_IDENTITY))
            return SHM_LOCKED;
        if (lock->flags & SHM_LOCK_RAISES) {
            uint32_t dead = seen;
            seen = load_acquire(&lock->word);
            if ((seen ^ dead) & SHM_IDENTITY)
                continue;
            return SHM_OWNER_DIED;
        }
        if (take_over(lock, &seen, claim))
            return SHM_INHERITED;
    }
}

int shm_lock_recover(const struct shm_segment *segment, struct shm_lock *lock, uint32_t claim,
                     const struct shm_place *place)
{
    uint32_t seen = load_acquire(&lock->word), dead;
    do {
        dead = seen;
        if (seen == 0 || shm_alive(segment, seen & SHM_IDENTITY))
            return SHM_NOT_HELD;
    } while (!take_over(lock, &seen, claim));
    if (claim == 0 && dead & SHM_SLEEPERS)
        shm_unpark(&lock->word, 1, place);
    return SHM_OK;
}

void shm_lock_release_guard(struct shm_lock *lock, const struct shm_place *place)
{
    if (load_relaxed(&lock->word) & SHM_SLEEPERS)
        store_relaxed(&lock->since, 0);
    if (exchange(&lock->word, 0) & SHM_SLEEPERS) /* B */
        shm_unpark(&lock->word, INT_MAX, place);
}

void shm_lock_count_wait(struct shm_lock *lock, uint64_t begin, uint64_t parks)
{
    fetch_add(&lock->contended, 1);
    if (!parks)
        return;
    fetch_add(&lock->parks, parks);
    uint64_t waited = shm_now() - begin, longest = load_relaxed(&lock->longest_wait);
    while (waited > longest && !compare_exchange(&lock->longest_wait, &longest, waited))
        ;
}

static bool is_free(const struct shm_lock *lock) { return load_relaxed(&lock->word) == 0; }

bool shm_lock_spin(struct shm_lock *lock, uint32_t claim, uint32_t ns)
{
    struct shm_spin spin = {0};
    do
        if (is_free(lock) && (claim == 0 || shm_lock_take(lock, claim)))
            return true;
    while (shm_keep_spinning(&spin, ns));
    return false;
}

/* The word with the bit set, or 0 if the lock became free first. */
static uint32_t announce_sleeper(struct shm_lock *lock)
{
    uint32_t word = load_acquire(&lock->word);
    while (word && !(word & SHM_SLEEPERS))
        if (compare_exchange(&lock->word, &word, word | SHM_SLEEPERS))
            return word | SHM_SLEEPERS;
    return word;
}

/* Since when the owner seen in `word` has had it, at least.  If it has gone on to another in the
 * meantime, the stamp is not his. */
static void stamp(struct shm_lock *lock, uint32_t word)
{
    uint64_t never = 0, now = shm_wall_clock();
    if (load_relaxed(&lock->since) || !compare_exchange(&lock->since, &never, now))
        return;
    if (load_relaxed(&lock->word) != word)
        compare_exchange(&lock->since, &now, 0);
}

int shm_lock_wait(const struct shm_segment *segment, struct shm_lock *lock,
                  const struct shm_place *place, struct shm_patience *patience,
                  struct shm_wait *wait)
{
    uint32_t budget = shm_spin_budget(patience);
    if (budget) {
        bool in_time = shm_lock_spin(lock, 0, budget);
        shm_spun(patience, in_time);
        if (in_time)
            return SHM_OK;
    }
    uint32_t word = announce_sleeper(lock);
    if (word == 0)
        return SHM_OK;
    if (!(lock->flags & SHM_LOCK_IS_LENT) && !shm_alive(segment, word & SHM_IDENTITY))
        return SHM_OK;
    stamp(lock, word);
    return shm_wait_is_over(shm_park(&lock->word, word, place, patience, wait), patience, wait);
}
