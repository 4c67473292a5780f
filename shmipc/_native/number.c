#include "number.h"

static bool sum_of(uint64_t before, int64_t amount, bool is_signed, uint64_t *after)
{
    int64_t sum;
    if (is_signed) {
        bool fits = !__builtin_add_overflow((int64_t)before, amount, &sum);
        *after = (uint64_t)sum;
        return fits;
    }
    return !__builtin_add_overflow(before, amount, after);
}

bool shm_number_add(struct shm_number *number, int64_t amount, bool is_signed, uint64_t *after)
{
    uint64_t before = load_relaxed(&number->value);
    do
        if (!sum_of(before, amount, is_signed, after))
            return false;
    while (!compare_exchange(&number->value, &before, *after)); /* G */
    shm_number_tell(number);
    return true;
}

struct watched {
    const struct shm_number *number;
    uint64_t seen;
};

static bool has_changed(const void *what)
{
    const struct watched *watched = what;
    return shm_number_load(watched->number) != watched->seen;
}

bool shm_number_spin(const struct shm_number *number, uint64_t seen, uint32_t ns)
{
    struct watched watched = {number, seen};
    return shm_spin_until(has_changed, &watched, ns);
}

int shm_number_wait(struct shm_number *number, uint64_t seen, struct shm_patience *patience,
                    struct shm_wait *wait)
{
    struct watched watched = {number, seen};
    return shm_event_wait(&number->event, has_changed, &watched, patience, wait);
}
