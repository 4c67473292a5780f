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

/* From exactly `word`, and nobody is woken yet. */
static bool turn(struct shm_barrier *barrier, uint32_t word, uint32_t phase)
{
    return compare_exchange(&barrier->phase, &word, with_phase(word, phase)); /* G */
}

/* The same; whoever waits has a look. */
static bool move(struct shm_barrier *barrier, uint32_t word, uint32_t phase)
{
    if (!turn(barrier, word, phase))
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

/* Not for one who has left the segment while a thread of his was here: he is nobody. */
static bool take_guard(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    uint32_t me = shm_me(segment);
    int status = me ? shm_lock_try(segment, &barrier->guard, me) : SHM_LOCKED;
    return status == SHM_OK || status == SHM_INHERITED;
}

/* Wakes for what was done under it, too: they would only have met the guard. */
static void release_guard(struct shm_barrier *barrier, bool turned)
{
    shm_lock_release_guard(&barrier->guard, &futex);
    if (turned)
        shm_barrier_wake_all(barrier);
}

/* Under the guard: nobody arrives, so that nobody is dropped who came for the next round.  Once the
 * sum is 0, what still counts is that of an older holder of a slot; it has to go as well, or the
 * next round would take it for one who arrived and died. */
static bool open_next(const struct shm_book *book, struct shm_barrier *barrier, bool drop_dead)
{
    uint32_t word = load_acquire(&barrier->phase);
    if (!is_leaving(word))
        return false;
    if (drop_dead)
        shm_ledger_drop_dead(book);
    if (shm_ledger_sum(book) != 0)
        return false;
    shm_ledger_drop_dead(book);
    return turn(barrier, word, SHM_FILLING);
}

/* Begins the next round, if nobody is left in the last one.  If the guard is taken, its holder does
 * so, who looks again after he has released it: edge I. */
static void open_if_deserted(const struct shm_segment *segment, struct shm_barrier *barrier,
                             bool drop_dead)
{
    struct shm_book book = book_of(segment, barrier);
    while (true) {
        fence_full(); /* I */
        if (!is_leaving(load_acquire(&barrier->phase)) ||
            (!drop_dead && shm_ledger_sum(&book) != 0) || !take_guard(segment, barrier))
            return;
        release_guard(barrier, open_next(&book, barrier, drop_dead));
        drop_dead = false;
    }
}

/* What the dead have done to it.  It is broken from exactly the phase in which they were found: it
 * may have been reset since, and another round have begun. */
static void look_for_dead(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    struct shm_book book = book_of(segment, barrier);
    uint32_t word = load_acquire(&barrier->phase);
    if (phase_in(word) == SHM_BROKEN)
        return;
    bool found = shm_ledger_has_dead(&book);
    if (is_leaving(word))
        open_if_deserted(segment, barrier, found);
    else if (found)
        move(barrier, word, SHM_BROKEN);
}

/* Under the guard. */
static int count_in(const struct shm_book *book, struct shm_barrier *barrier, bool acts,
                    uint32_t *index, bool *turned)
{
    uint32_t word = load_acquire(&barrier->phase);
    if (phase_in(word) == SHM_BROKEN)
        return SHM_BROKEN_OFF;
    if (phase_in(word) != SHM_FILLING)
        return SHM_NOT_NOW;
    *index = (uint32_t)shm_ledger_sum(book);
    shm_ledger_add(book, shm_me(book->segment)); /* the commit; G */
    if (*index + 1 == barrier->parties)
        *turned = turn(barrier, word, acts ? SHM_ACTING : SHM_LEAVING);
    return SHM_OK;
}

int shm_barrier_arrive(const struct shm_segment *segment, struct shm_barrier *barrier, bool acts,
                       uint32_t *index)
{
    struct shm_book book = book_of(segment, barrier);
    bool turned = false;
    look_for_dead(segment, barrier);
    if (!take_guard(segment, barrier))
        return SHM_LOCKED;
    int status = count_in(&book, barrier, acts, index, &turned);
    release_guard(barrier, turned);
    open_if_deserted(segment, barrier, false);
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

/* Also while the last one acts: they have met, but not left. */
static bool have_left(const void *barrier)
{
    uint32_t word = load_acquire(&((const struct shm_barrier *)barrier)->phase);
    return phase_in(word) == SHM_FILLING || phase_in(word) == SHM_BROKEN;
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
    open_if_deserted(segment, barrier, false);
}

void shm_barrier_abort(struct shm_barrier *barrier)
{
    uint32_t word = load_acquire(&barrier->phase);
    while (phase_in(word) != SHM_BROKEN && !move(barrier, word, SHM_BROKEN))
        word = load_acquire(&barrier->phase);
}

/* From any phase but FILLING, in which others may arrive meanwhile: RESETTING, whose end clears the
 * ledger under the guard.  It ends at once if nobody is there. */
void shm_barrier_reset(const struct shm_segment *segment, struct shm_barrier *barrier)
{
    struct shm_book book = book_of(segment, barrier);
    uint32_t word;
    do {
        word = load_acquire(&barrier->phase);
        if (phase_in(word) == SHM_FILLING && shm_ledger_sum(&book) == 0 &&
            !shm_ledger_has_dead(&book))
            return;
    } while (!is_leaving(word) && !move(barrier, word, SHM_RESETTING));
    open_if_deserted(segment, barrier, shm_ledger_has_dead(&book));
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
