#include "semaphores.h"

static const struct shm_place futex = {0};

static bool has_units(const void *semaphore)
{
    return load_relaxed(&((const struct shm_semaphore *)semaphore)->value) != 0;
}

int shm_semaphore_release(struct shm_semaphore *semaphore)
{
    uint32_t value = load_relaxed(&semaphore->value);
    do
        if (value >= SHM_SEMAPHORE_MAX)
            return SHM_FULL;
    while (!compare_exchange(&semaphore->value, &value, value + 1)); /* G */
    shm_event_notify(&semaphore->event, 1, &futex);
    return SHM_OK;
}

void shm_semaphore_pass_on(struct shm_semaphore *semaphore)
{
    if (has_units(semaphore))
        shm_event_notify(&semaphore->event, 1, &futex);
}

bool shm_semaphore_spin(const struct shm_semaphore *semaphore, uint32_t ns)
{
    return shm_spin_until(has_units, semaphore, ns);
}

int shm_semaphore_wait(struct shm_semaphore *semaphore, struct shm_patience *patience,
                       struct shm_wait *wait)
{
    return shm_event_wait(&semaphore->event, has_units, semaphore, patience, wait);
}

/* --- with a bound --- */

static struct shm_book book_of(const struct shm_segment *segment, struct shm_bounded *bounded)
{
    return (struct shm_book){segment, (shm_ledger *)(bounded + 1), &bounded->slots_used};
}

uint64_t shm_bounded_size(uint32_t slot_count)
{
    return sizeof(struct shm_bounded) + shm_ledger_size(slot_count);
}

static uint32_t left_of(const struct shm_book *book, const struct shm_bounded *bounded)
{
    uint64_t taken = shm_ledger_sum(book);
    return taken < bounded->bound ? bounded->bound - (uint32_t)taken : 0;
}

uint32_t shm_bounded_value(const struct shm_segment *segment, struct shm_bounded *bounded)
{
    struct shm_book book = book_of(segment, bounded);
    shm_ledger_drop_dead(&book);
    return left_of(&book, bounded);
}

/* A look before the guard keeps those who would find nothing away from it. */
int shm_bounded_try(const struct shm_segment *segment, struct shm_bounded *bounded)
{
    struct shm_book book = book_of(segment, bounded);
    if (left_of(&book, bounded) == 0 && !shm_ledger_drop_dead(&book))
        return SHM_NOT_NOW;
    if (shm_lock_try(segment, &bounded->guard, shm_me(segment)) == SHM_LOCKED)
        return SHM_LOCKED;
    int status = left_of(&book, bounded) ? SHM_OK : SHM_NOT_NOW;
    if (status == SHM_OK)
        shm_ledger_add(&book, shm_me(segment)); /* the commit; G */
    shm_lock_release_guard(&bounded->guard, &futex);
    return status;
}

/* Those of the dead are counted out first: they are back already, and to give one of them back would
 * leave the one that is meant with whoever took it. */
static bool give_back_another(const struct shm_book *book)
{
    shm_ledger_drop_dead(book);
    return shm_ledger_take_any(book);
}

int shm_bounded_release(const struct shm_segment *segment, struct shm_bounded *bounded)
{
    struct shm_book book = book_of(segment, bounded);
    if (!shm_ledger_take(&book, shm_me(segment)) && !give_back_another(&book))
        return SHM_FULL;
    shm_event_notify(&bounded->event, 1, &futex);
    return SHM_OK;
}

void shm_bounded_pass_on(const struct shm_segment *segment, struct shm_bounded *bounded)
{
    struct shm_book book = book_of(segment, bounded);
    if (left_of(&book, bounded))
        shm_event_notify(&bounded->event, 1, &futex);
}

struct looked_at {
    struct shm_book book;
    const struct shm_bounded *bounded;
};

static bool has_any_left(const void *what)
{
    const struct looked_at *at = what;
    return left_of(&at->book, at->bounded) != 0;
}

int shm_bounded_wait(const struct shm_segment *segment, struct shm_bounded *bounded,
                     struct shm_patience *patience, struct shm_wait *wait)
{
    struct looked_at at = {book_of(segment, bounded), bounded};
    return shm_event_wait(&bounded->event, has_any_left, &at, patience, wait);
}
