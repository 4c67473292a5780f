#include "rwlock.h"

#include <limits.h>

#define ONE_IN 1ull
#define ONE_WAITING (1ull << 16)
#define ONE_TIME (1ull << 32)
#define MOST 0xFFFFu /* readers of one process; its threads are fewer than those that may wait */

static const struct shm_place futex = {0};

static uint32_t in(uint64_t word) { return word & MOST; }
static uint32_t waiting_in(uint64_t word) { return word >> 16 & MOST; }
static uint32_t times_in(uint64_t word) { return (uint32_t)(word >> 32); }

uint64_t shm_rwlock_size(uint32_t slot_count)
{
    return sizeof(struct shm_rwlock) + slot_count * sizeof(struct shm_readers);
}

static struct shm_readers *line_of(struct shm_rwlock *rwlock, uint32_t slot)
{
    return (struct shm_readers *)(rwlock + 1) + slot;
}

/* What the one before us in this slot had goes, and the line is ours.  Several threads may do this
 * at once, and the late one must not wipe out what the first has written since.  So it wipes from
 * exactly the word that it read before it saw that the line was not ours yet, and each wiping
 * counts as a time let in: the word does not come back. */
static void take_line(struct shm_rwlock *rwlock, struct shm_readers *mine, uint32_t me)
{
    uint64_t word = load_acquire(&mine->word);
    uint32_t before;
    shm_use_slot(&rwlock->slots_used, shm_slot_of(me));
    while ((before = load_acquire(&mine->identity)) != me)
        if (compare_exchange(&mine->word, &word, (word & ~(ONE_TIME - 1)) + ONE_TIME))
            compare_exchange(&mine->identity, &before, me);
}

/* The line of this process. */
static struct shm_readers *my_line(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    uint32_t me = shm_me(segment);
    struct shm_readers *mine = line_of(rwlock, shm_slot_of(me));
    if (load_acquire(&mine->identity) != me)
        take_line(rwlock, mine, me);
    return mine;
}

static bool has_writer(const struct shm_rwlock *rwlock)
{
    return load_acquire(&rwlock->writer.word) != 0; /* B */
}

/* One more in; false if the count has no room. */
static bool come_in(struct shm_readers *mine)
{
    uint64_t word = load_relaxed(&mine->word);
    while (in(word) < MOST)
        if (compare_exchange(&mine->word, &word, word + ONE_IN))
            return true;
    return false;
}

static void tell_writer(struct shm_rwlock *rwlock)
{
    fence_full(); /* C */
    if (has_writer(rwlock) && shm_event_has_sleepers(&rwlock->readers_go))
        shm_event_wake(&rwlock->readers_go, 1, &futex);
}

/* One less in; false if there is none. */
static bool go(struct shm_rwlock *rwlock, struct shm_readers *mine)
{
    uint64_t word = load_relaxed(&mine->word);
    do
        if (in(word) == 0)
            return false;
    while (!compare_exchange(&mine->word, &word, word - ONE_IN)); /* B */
    tell_writer(rwlock);
    return true;
}

/* W5, for one line: all that wait there are in.  If the count has no room for them they stay, and find
 * that out for themselves. */
static void let_in(struct shm_readers *line)
{
    uint64_t word = load_relaxed(&line->word), after;
    do {
        if (waiting_in(word) == 0 || in(word) + waiting_in(word) > MOST)
            return;
        after = (word & ~(MOST * ONE_WAITING)) + waiting_in(word) * ONE_IN + ONE_TIME;
    } while (!compare_exchange(&line->word, &word, after)); /* B */
}

static void let_all_in_and_go(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    uint32_t used = shm_slots_used(segment, &rwlock->slots_used);
    for (uint32_t slot = 0; slot < used; slot++)
        let_in(line_of(rwlock, slot));
    shm_lock_release(&rwlock->writer, &futex); /* W6: B */
    shm_event_notify(&rwlock->writer_goes, INT_MAX, &futex);
}

/* A dead writer's lock becomes ours, and we let ourselves in.  His mark stays, so that our heir is
 * told if we die holding the lock; the release says in one store that we know. */
static int read_after_death(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                            struct shm_readers *mine)
{
    int status = shm_rwlock_try_write(segment, rwlock, shm_me(segment));
    if (status == SHM_LOCKED)
        return SHM_NOT_NOW;
    if (status == SHM_OWNER_DIED)
        return status;
    if (!come_in(mine)) /* another thread took the room */
        status = SHM_NO_PLACE;
    let_all_in_and_go(segment, rwlock);
    return status;
}

int shm_rwlock_try_read(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    struct shm_readers *mine = my_line(segment, rwlock);
    if (in(load_relaxed(&mine->word)) == MOST)
        return SHM_NO_PLACE;
    if (has_writer(rwlock))
        return read_after_death(segment, rwlock, mine);
    if (!come_in(mine)) /* R1 */
        return SHM_NO_PLACE;
    fence_full();            /* R2: H */
    if (!has_writer(rwlock)) /* R3 */
        return SHM_OK;
    go(rwlock, mine);
    return read_after_death(segment, rwlock, mine);
}

void shm_rwlock_queue(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                      struct shm_queued *queued)
{
    struct shm_readers *mine = my_line(segment, rwlock);
    uint64_t before = fetch_add(&mine->word, ONE_WAITING);
    *queued = (struct shm_queued){mine, rwlock, times_in(before)};
}

static bool is_let_in(const struct shm_queued *queued)
{
    return times_in(load_acquire(&queued->mine->word)) != queued->times; /* B */
}

static bool may_read(const void *what)
{
    const struct shm_queued *queued = what;
    return is_let_in(queued) || !has_writer(queued->rwlock);
}

int shm_rwlock_wait_read(const struct shm_segment *segment, struct shm_queued *queued,
                         struct shm_patience *patience, struct shm_wait *wait)
{
    (void)segment;
    return shm_event_wait(&queued->rwlock->writer_goes, may_read, queued, patience, wait);
}

bool shm_rwlock_unqueue(struct shm_queued *queued)
{
    uint64_t word = load_acquire(&queued->mine->word);
    while (times_in(word) == queued->times)
        if (compare_exchange(&queued->mine->word, &word, word - ONE_WAITING))
            return false;
    return true;
}

int shm_rwlock_release_read(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    if (shm_me(segment) == 0) /* it has left the segment, and has no line */
        return SHM_NOT_HELD;
    return go(rwlock, my_line(segment, rwlock)) ? SHM_OK : SHM_NOT_HELD;
}

/* --- writing --- */

int shm_rwlock_recover(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    if (shm_lock_recover(segment, &rwlock->writer, shm_me(segment), &futex) != SHM_OK)
        return SHM_NOT_HELD;
    fence_full(); /* W2: H */
    if (load_relaxed(&rwlock->writer.depth))
        return SHM_OK;
    shm_rwlock_release_write(segment, rwlock);
    return SHM_NOT_HELD;
}

/* The lock of one who died before he wrote has protected nothing: it is taken whatever its flags
 * say.  The mark is read after the death, so it is the dead one's last. */
static int take_writer(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                       uint32_t claim)
{
    int status = shm_lock_try(segment, &rwlock->writer, claim);
    if (status != SHM_OWNER_DIED || load_relaxed(&rwlock->writer.depth))
        return status;
    return shm_lock_recover(segment, &rwlock->writer, claim, &futex) == SHM_OK ? SHM_INHERITED
                                                                              : SHM_LOCKED;
}

/* The dead one's mark stays, for our heir, until we release. */
int shm_rwlock_try_write(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                         uint32_t claim)
{
    int status = take_writer(segment, rwlock, claim);
    if (status != SHM_OK && status != SHM_INHERITED)
        return status;
    fence_full(); /* W2: H */
    if (status == SHM_INHERITED && load_relaxed(&rwlock->writer.depth))
        return SHM_INHERITED;
    store_relaxed(&rwlock->writer.depth, 0); /* what a reader that inherited has left */
    return SHM_OK;
}

/* How many of this slot are in, if it is still that participant's.  Those of one found dead do not
 * count again: the line is nobody's, unless it has been taken since. */
static uint32_t readers_in(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                           uint32_t slot, bool ask)
{
    struct shm_readers *line = line_of(rwlock, slot);
    uint32_t identity = load_acquire(&line->identity);
    uint32_t count = in(load_acquire(&line->word)); /* B */
    if (!count || identity != load_relaxed(&segment->slots[slot].identity))
        return 0;
    if (!ask || shm_alive(segment, identity))
        return count;
    compare_exchange(&line->identity, &identity, 0);
    return 0;
}

static uint32_t count_readers(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                              bool ask)
{
    uint32_t count = 0, used = shm_slots_used(segment, &rwlock->slots_used);
    for (uint32_t slot = 0; slot < used; slot++)
        count += readers_in(segment, rwlock, slot, ask);
    return count;
}

uint32_t shm_rwlock_readers(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    return count_readers(segment, rwlock, true);
}

bool shm_rwlock_is_alone(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    return !count_readers(segment, rwlock, false) || !count_readers(segment, rwlock, true);
}

struct read_by {
    const struct shm_segment *segment;
    struct shm_rwlock *rwlock;
};

static bool is_unread(const void *what)
{
    const struct read_by *by = what;
    return count_readers(by->segment, by->rwlock, false) == 0;
}

int shm_rwlock_wait_alone(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                          struct shm_patience *patience, struct shm_wait *wait)
{
    struct read_by by = {segment, rwlock};
    return shm_event_wait(&rwlock->readers_go, is_unread, &by, patience, wait);
}

int shm_rwlock_release_write(const struct shm_segment *segment, struct shm_rwlock *rwlock)
{
    uint32_t holder = load_relaxed(&rwlock->writer.word) & SHM_IDENTITY;
    if (holder == 0 || holder != shm_me(segment))
        return SHM_NOT_HELD;
    store_release(&rwlock->writer.depth, 0); /* what is written is whole, before that is said */
    let_all_in_and_go(segment, rwlock);
    return SHM_OK;
}

void shm_rwlock_wake_all(struct shm_rwlock *rwlock)
{
    shm_unpark(&rwlock->writer.word, INT_MAX, &futex);
    shm_unpark(&rwlock->readers_go.word, INT_MAX, &futex);
    shm_unpark(&rwlock->writer_goes.word, INT_MAX, &futex);
}
