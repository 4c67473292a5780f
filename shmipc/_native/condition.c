#include "condition.h"

#include "event.h"
#include "ledger.h"

#define STATE 3ull
#define NOBODY UINT32_MAX

static const struct shm_place futex = {0};

static uint32_t state_in(uint64_t word) { return (uint32_t)(word & STATE); }
static uint32_t ticket_in(uint64_t word) { return (uint32_t)word >> 2; }
static uint32_t identity_in(uint64_t word) { return (uint32_t)(word >> 32); }
static uint64_t with_state(uint64_t word, uint32_t state) { return (word & ~STATE) | state; }

static bool is_waiting(uint64_t word)
{
    return state_in(word) == SHM_AWAKE || state_in(word) == SHM_ASLEEP;
}

static bool is_before(uint64_t a, uint64_t b)
{
    return (int32_t)((ticket_in(a) - ticket_in(b)) << 2) < 0; /* tickets wrap */
}

static shm_atomic32 *lower_half(struct shm_waiter *waiter)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (shm_atomic32 *)&waiter->word;
#else
    return (shm_atomic32 *)&waiter->word + 1;
#endif
}

static uint32_t places_used(const struct shm_condition *condition)
{
    uint32_t used = load_acquire(&condition->waiters_used);
    return used < SHM_WAITERS ? used : SHM_WAITERS;
}

/* Makes a waiting one notified; false if he has just left, or somebody else was quicker. */
static bool grant(struct shm_condition *condition, uint32_t place)
{
    struct shm_waiter *waiter = &condition->waiters[place];
    uint64_t word = load_relaxed(&waiter->word);
    while (is_waiting(word))
        if (compare_exchange(&waiter->word, &word, with_state(word, SHM_NOTIFIED))) { /* G */
            if (state_in(word) == SHM_ASLEEP)
                shm_unpark(lower_half(waiter), 1, &futex);
            return true;
        }
    return false;
}

/* The living one who came first, or NOBODY.  Places of the dead are cleared on the way.  A word is
 * read with acquire wherever it is asked who lives: who is named in it wrote that name into his slot
 * first, and would seem dead if we saw the one and not the other. */
static uint32_t find_first(const struct shm_segment *segment, struct shm_condition *condition)
{
    while (true) {
        uint32_t first = NOBODY, used = places_used(condition);
        uint64_t oldest = 0;
        for (uint32_t place = 0; place < used; place++) {
            uint64_t word = load_acquire(&condition->waiters[place].word);
            if (is_waiting(word) && (first == NOBODY || is_before(word, oldest))) {
                first = place;
                oldest = word;
            }
        }
        if (first == NOBODY || shm_alive(segment, identity_in(oldest)))
            return first;
        compare_exchange(&condition->waiters[first].word, &oldest, 0);
    }
}

/* Notifies one; false if nobody waits. */
static bool notify_one(const struct shm_segment *segment, struct shm_condition *condition)
{
    uint32_t place;
    while ((place = find_first(segment, condition)) != NOBODY)
        if (grant(condition, place))
            return true;
    return false;
}

/* A place in which somebody was notified and died becomes ours; NOBODY if there is none. */
static uint32_t take_from_dead(const struct shm_segment *segment,
                               struct shm_condition *condition)
{
    uint32_t used = shm_me(segment) ? places_used(condition) : 0;
    for (uint32_t place = 0; place < used; place++) {
        shm_atomic64 *entry = &condition->waiters[place].word;
        uint64_t word = load_acquire(entry);
        if (state_in(word) != SHM_NOTIFIED || shm_alive(segment, identity_in(word)))
            continue;
        uint64_t ours = (uint64_t)shm_me(segment) << 32 | (uint32_t)word;
        if (compare_exchange(entry, &word, ours))
            return place;
    }
    return NOBODY;
}

/* What the dead were notified of goes on to those who wait now. */
static void pass_on_from_dead(const struct shm_segment *segment,
                              struct shm_condition *condition)
{
    uint32_t place;
    while ((place = take_from_dead(segment, condition)) != NOBODY) {
        notify_one(segment, condition);
        store_release(&condition->waiters[place].word, 0);
    }
}

void shm_condition_notify(const struct shm_segment *segment, struct shm_condition *condition,
                          uint32_t count)
{
    pass_on_from_dead(segment, condition);
    while (count-- && notify_one(segment, condition))
        ;
}

static bool take_place(struct shm_condition *condition, uint32_t place, uint64_t word)
{
    uint64_t nobody = 0;
    if (!compare_exchange(&condition->waiters[place].word, &nobody, word))
        return false;
    store_relaxed(&condition->waiters[place].thread, shm_this_thread());
    return true;
}

static void clear_dead(const struct shm_segment *segment, struct shm_condition *condition)
{
    pass_on_from_dead(segment, condition);
    for (uint32_t place = 0; place < places_used(condition); place++) {
        uint64_t word = load_acquire(&condition->waiters[place].word);
        if (is_waiting(word) && !shm_alive(segment, identity_in(word)))
            compare_exchange(&condition->waiters[place].word, &word, 0);
    }
}

static bool find_place(struct shm_condition *condition, uint64_t word, uint32_t *place)
{
    for (*place = 0; *place < SHM_WAITERS; ++*place) {
        if (*place >= places_used(condition))
            shm_use_slot(&condition->waiters_used, *place);
        if (load_relaxed(&condition->waiters[*place].word) == 0 &&
            take_place(condition, *place, word))
            return true;
    }
    return false;
}

int shm_condition_enter(const struct shm_segment *segment, struct shm_condition *condition,
                        uint32_t *place)
{
    uint32_t ticket = fetch_add(&condition->ticket, 1);
    uint64_t word = (uint64_t)shm_me(segment) << 32 | (uint32_t)(ticket << 2) | SHM_AWAKE;
    if (find_place(condition, word, place))
        return SHM_OK;
    clear_dead(segment, condition);
    return find_place(condition, word, place) ? SHM_OK : SHM_NO_PLACE;
}

bool shm_condition_is_notified(const struct shm_condition *condition, uint32_t place)
{
    return state_in(load_acquire(&condition->waiters[place].word)) == SHM_NOTIFIED; /* G */
}

static bool is_notified(const void *waiter)
{
    return state_in(load_acquire(&((const struct shm_waiter *)waiter)->word)) == SHM_NOTIFIED;
}

bool shm_condition_spin(const struct shm_condition *condition, uint32_t place, uint32_t ns)
{
    return shm_spin_until(is_notified, &condition->waiters[place], ns);
}

static bool spin_patiently(const struct shm_waiter *waiter, struct shm_patience *patience)
{
    uint32_t budget = shm_spin_budget(patience);
    if (!budget)
        return false;
    bool in_time = shm_spin_until(is_notified, waiter, budget);
    shm_spun(patience, in_time);
    return in_time;
}

int shm_condition_wait(const struct shm_segment *segment, struct shm_condition *condition,
                       uint32_t *place, struct shm_patience *patience, struct shm_wait *wait)
{
    struct shm_waiter *waiter = &condition->waiters[*place];
    if (spin_patiently(waiter, patience))
        return SHM_OK;
    uint64_t word = load_relaxed(&waiter->word), asleep = with_state(word, SHM_ASLEEP);
    if (!is_waiting(word) || !compare_exchange(&waiter->word, &word, asleep))
        return SHM_OK;
    int status = shm_park(lower_half(waiter), (uint32_t)asleep, &futex, patience, wait);
    if (status == SHM_TIMED_OUT) {
        uint32_t found = take_from_dead(segment, condition);
        if (found != NOBODY) {
            shm_condition_give_up(segment, condition, *place);
            *place = found;
            return SHM_OK;
        }
    }
    return shm_wait_is_over(status, patience, wait);
}

bool shm_condition_leave(struct shm_condition *condition, uint32_t place)
{
    return state_in(exchange(&condition->waiters[place].word, 0)) == SHM_NOTIFIED; /* G */
}

void shm_condition_give_up(const struct shm_segment *segment, struct shm_condition *condition,
                           uint32_t place)
{
    uint64_t word = load_relaxed(&condition->waiters[place].word);
    if (identity_in(word) != shm_me(segment))
        return;
    while (is_waiting(word))
        if (compare_exchange(&condition->waiters[place].word, &word, 0))
            return;
    if (state_in(word) == SHM_NOTIFIED)
        notify_one(segment, condition);
    store_release(&condition->waiters[place].word, 0);
}

uint32_t shm_condition_waiting(const struct shm_segment *segment,
                               const struct shm_condition *condition)
{
    uint32_t waiting = 0;
    for (uint32_t place = 0; place < places_used(condition); place++) {
        uint64_t word = load_acquire(&condition->waiters[place].word);
        waiting += is_waiting(word) && shm_alive(segment, identity_in(word));
    }
    return waiting;
}

void shm_condition_wake_all(struct shm_condition *condition)
{
    for (uint32_t place = 0; place < places_used(condition); place++)
        if (state_in(load_relaxed(&condition->waiters[place].word)) == SHM_ASLEEP)
            shm_unpark(lower_half(&condition->waiters[place]), 1, &futex);
}
