#include "flag.h"

#include <limits.h>

void shm_flag_set(struct shm_flag *flag)
{
    static const struct shm_place futex = {0};
    uint32_t word = load_relaxed(&flag->word);
    while (!compare_exchange(&flag->word, &word, (word + SHM_FLAG_TIME) | SHM_FLAG_SET)) /* G */
        ;
    shm_event_notify(&flag->event, INT_MAX, &futex);
}

void shm_flag_clear(struct shm_flag *flag)
{
    uint32_t word = load_relaxed(&flag->word);
    while (word & SHM_FLAG_SET && !compare_exchange(&flag->word, &word, word & ~SHM_FLAG_SET))
        ;
}

struct watched {
    const struct shm_flag *flag;
    uint32_t seen;
};

static bool was_set(const void *what)
{
    const struct watched *watched = what;
    return shm_flag_was_set(watched->flag, watched->seen);
}

bool shm_flag_spin(const struct shm_flag *flag, uint32_t seen, uint32_t ns)
{
    struct watched watched = {flag, seen};
    return shm_spin_until(was_set, &watched, ns);
}

int shm_flag_wait(struct shm_flag *flag, uint32_t seen, struct shm_patience *patience,
                  struct shm_wait *wait)
{
    struct watched watched = {flag, seen};
    return shm_event_wait(&flag->event, was_set, &watched, patience, wait);
}
