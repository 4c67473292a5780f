#include "barrier.h"

#include <limits.h>

#include "event.h"

static const struct shm_place futex = {0};

static uint32_t phase_in(uint32_t word) { return word & SHM_PHASE; }

static uint32_t with_phase(uint32_t word, uint32_t phase)
{
    return ((word & ~SHM_PHASE) + SHM_PHASE_STEP) | phase;
}

static struct shm_book book_of(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    return (struct shm_book){segment, (shm_ledger *)(barrier + 1), &barrier->slots_used};
}

uint64_t shm_barrier_size(uint32_t slot_count)
{
    return sizeof(struct shm_barrier) + shm_ledger_size(slot_count);
}

void shm_barrier_wake_all(struct shm_barrier *barrier)
{
    shm_unpark(&barrier->phase, INT_MAX, &futex);
}

/* From exactly `word`; whoever waits has a look. */
static bool move(struct shm_barrier *barrier, uint32_t word, uint32_t phase)
{
    if (!compare_exchange(&barrier->phase, &word, with_phase(word, phase))) /* G */
        return false;
    shm_barrier_wake_all(barrier);
    return true;
}

static bool is_meeting(uint32_t word)
{
    return phase_in(word) == SHM_FILLING || phase_in(word) == SHM_ACTING;
}

static bool is_leaving(uint32_t word)
{
    return phase_in(word) == SHM_LEAVING || phase_in(word) == SHM_RESETTING;
}

static void break_off(struct shm_barrier *barrier)
{
    uint32_t word = load_acquire(&barrier->phase);
    while (is_meeting(word) && !move(barrier, word, SHM_BROKEN))
        word = load_acquire(&barrier->phase);
}

/* What the dead have done to it. */
static void look_for_dead(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    struct shm_book book = book_of(segment, barrier);
    uint32_t word = load_acquire(&barrier->phase);
    if (is_meeting(word) && shm_ledger_has_dead(&book))
        break_off(barrier);
    if (is_leaving(word)) {
        shm_ledger_drop_dead(&book);
        if (shm_ledger_sum(&book) == 0)
            move(barrier, word, SHM_FILLING);
    }
}

/* Under the guard. */
static int count_in(const struct shm_book *book, struct shm_barrier *barrier, bool acts,
                    uint32_t *index)
{
    uint32_t word = load_acquire(&barrier->phase);
    if (phase_in(word) == SHM_BROKEN)
        return SHM_BROKEN_OFF;
    if (phase_in(word) != SHM_FILLING)
        return SHM_NOT_NOW;
    *index = (uint32_t)shm_ledger_sum(book);
    shm_ledger_add(book, shm_me(book->segment)); /* the commit; G */
    if (*index + 1 == barrier->parties)
        move(barrier, word, acts ? SHM_ACTING : SHM_LEAVING);
    return SHM_OK;
}

int shm_barrier_arrive(const struct shm_segment *segment, struct shm_barrier *barrier, bool acts,
                       uint32_t *index)
{
    struct shm_book book = book_of(segment, barrier);
    look_for_dead(segment, barrier);
    if (shm_lock_try(segment, &barrier->guard, shm_me(segment)) == SHM_LOCKED)
        return SHM_LOCKED;
    int status = count_in(&book, barrier, acts, index);
    shm_lock_release_guard(&barrier->guard, &futex);
    return status;
}

int shm_barrier_finish(struct shm_barrier *barrier)
{
    uint32_t word = load_acquire(&barrier->phase);
    return phase_in(word) == SHM_ACTING && move(barrier, word, SHM_LEAVING) ? SHM_OK
                                                                             : SHM_BROKEN_OFF;
}

int shm_barrier_look(const struct shm_barrier *barrier)
{
    uint32_t word = load_acquire(&barrier->phase); /* G */
    if (is_meeting(word))
        return SHM_NOT_NOW;
    return phase_in(word) == SHM_LEAVING ? SHM_OK : SHM_BROKEN_OFF;
}

static bool has_met(const void *barrier) { return shm_barrier_look(barrier) != SHM_NOT_NOW; }

static bool have_left(const void *barrier)
{
    return !is_leaving(load_acquire(&((const struct shm_barrier *)barrier)->phase));
}

bool shm_barrier_spin(const struct shm_barrier *barrier, uint32_t ns)
{
    return shm_spin_until(has_met, barrier, ns);
}

static bool spin_patiently(shm_ready ready, const struct shm_barrier *barrier,
                           struct shm_patience *patience)
{
    uint32_t budget = shm_spin_budget(patience);
    bool in_time = budget && shm_spin_until(ready, barrier, budget);
    if (budget)
        shm_spun(patience, in_time);
    return in_time;
}

int shm_barrier_wait(const struct shm_segment *segment, struct shm_barrier *barrier,
                     bool arrived, struct shm_patience *patience, struct shm_wait *wait)
{
    shm_ready ready = arrived ? has_met : have_left;
    if (spin_patiently(ready, barrier, patience))
        return SHM_OK;
    look_for_dead(segment, barrier);
    uint32_t word = load_acquire(&barrier->phase);
    if (ready(barrier))
        return SHM_OK;
    int status = shm_park(&barrier->phase, word, &futex, patience, wait);
    return shm_wait_is_over(status, patience, wait);
}

void shm_barrier_leave(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    struct shm_book book = book_of(segment, barrier);
    shm_ledger_take(&book, shm_me(segment));
    uint32_t word = load_acquire(&barrier->phase);
    if (is_leaving(word) && shm_ledger_sum(&book) == 0)
        move(barrier, word, SHM_FILLING);
}

void shm_barrier_abort(struct shm_barrier *barrier)
{
    uint32_t word = load_acquire(&barrier->phase);
    while (phase_in(word) != SHM_BROKEN && !move(barrier, word, SHM_BROKEN))
        word = load_acquire(&barrier->phase);
}

void shm_barrier_reset(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    struct shm_book book = book_of(segment, barrier);
    while (true) {
        uint32_t word = load_acquire(&barrier->phase);
        if (is_leaving(word))
            return;
        shm_ledger_drop_dead(&book);
        uint64_t here = shm_ledger_sum(&book);
        if (here == 0 && phase_in(word) == SHM_FILLING)
            return;
        if (move(barrier, word, here ? SHM_RESETTING : SHM_FILLING))
            return;
    }
}

void shm_barrier_time_out(struct shm_barrier *barrier)
{
    uint32_t word = load_acquire(&barrier->phase);
    while (phase_in(word) == SHM_FILLING && !move(barrier, word, SHM_BROKEN))
        word = load_acquire(&barrier->phase);
}

bool shm_barrier_is_broken(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    look_for_dead(segment, barrier);
    return phase_in(load_acquire(&barrier->phase)) == SHM_BROKEN;
}

uint32_t shm_barrier_waiting(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    struct shm_book book = book_of(segment, barrier);
    look_for_dead(segment, barrier);
    return is_meeting(load_acquire(&barrier->phase)) ? (uint32_t)shm_ledger_sum(&book) : 0;
}
