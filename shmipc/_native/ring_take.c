#include <string.h>

#include "ring_inside.h"

/* How far before its turn a record is asked for: fetching a line from the producer's cache takes as
 * long as taking several messages.  The second mapping makes the address right at the end, too. */
#define AHEAD 512

/* What stands at the head.  SHM_OK: a message, described by `loan`. */
static int look(struct shm_ring *ring, struct shm_point head, struct shm_loan *loan)
{
    uint64_t room = ring->known_tail - head.position;
    if (room == 0 || room > shm_ring_capacity(ring)) { /* others may be past what we know */
        uint64_t tail = load_acquire(&ring->control->producers.cursor); /* A */
        if (tail - head.position > shm_ring_capacity(ring))
            return SHM_CORRUPT;
        ring->known_tail = tail;
        if (head.position == tail)
            return SHM_EMPTY;
    }
    struct shm_record *record = record_at(ring, head.position);
    uint64_t state = load_acquire(&record->state); /* A */
    uint64_t shape = load_relaxed(&record->shape);
    uint64_t size = size_of(shape, ring->known_tail - head.position); /* <= capacity */
    if (!size || record->sequence != head.sequence)
        return SHM_CORRUPT;
    *loan = (struct shm_loan){.record = record,
                              .bytes = (uint8_t *)(record + 1),
                              .length = length_of(shape),
                              .tag = tag_of(shape),
                              .deliveries = deliveries_of(state),
                              .sequence = head.sequence,
                              .end = head.position + size};
    if (room > AHEAD)
        __builtin_prefetch((const uint8_t *)record + AHEAD);
    switch (state_of(state)) {
    case SHM_READY:
        return SHM_OK;
    case SHM_BORROWED: /* by one who died between the mark and the move of the head */
        return SHM_OK;
    case SHM_RESERVED:
        return shm_alive(ring->segment, holder_of(state)) ? SHM_EMPTY : SHM_NOT_HELD;
    case SHM_ABANDONED:
        return SHM_NOT_HELD;
    default:
        return SHM_CORRUPT;
    }
}

/* Its producer died before the commit.  Marked, so that the space can be swept over. */
static void skip(struct shm_record *record)
{
    uint64_t state = load_relaxed(&record->state);
    if (state_of(state) == SHM_RESERVED)
        compare_exchange(&record->state, &state, pack_state(SHM_ABANDONED, 0, 0));
}

/* A batch is held in one way, which its first message decides. */
struct batch {
    struct shm_loan *loans;
    uint32_t most, count;
    uint8_t *scratch; /* NULL: nothing is copied */
    uint32_t copied;
    enum shm_hold hold;
};

static enum shm_hold choose_hold(const struct shm_ring *ring, const struct batch *batch,
                                 uint64_t length)
{
    if (ring->flags & SHM_ONE_CONSUMER)
        return length > SHM_LONG ? SHM_LENT : SHM_UNTOUCHED;
    return batch->scratch && length * batch->most <= SHM_SHORT ? SHM_COPIED : SHM_LENT;
}

/* With one consumer a long message is lent, because its reader lets other threads in here
 * meanwhile, and then comes alone: what is untouched cannot follow it. */
static bool may_follow(const struct shm_ring *ring, const struct batch *batch, uint64_t length)
{
    switch (batch->hold) {
    case SHM_UNTOUCHED:
        return length <= SHM_LONG;
    case SHM_COPIED:
        return batch->copied + length <= SHM_SHORT;
    default:
        return !(ring->flags & SHM_ONE_CONSUMER);
    }
}

static void hold(struct shm_ring *ring, struct batch *batch, uint64_t position)
{
    struct shm_loan *loan = &batch->loans[batch->count++];
    loan->hold = (uint8_t)batch->hold;
    if (batch->hold == SHM_LENT)
        shm_lend(ring, loan, position);
    if (batch->hold == SHM_COPIED) {
        loan->bytes = memcpy(batch->scratch + batch->copied, loan->bytes, loan->length);
        batch->copied += loan->length;
    }
}

/* Takes what stands at the head, in order, and skips what the dead left unfinished. */
static int take_from_head(struct shm_ring *ring, struct shm_point *head, struct batch *batch)
{
    while (batch->count < batch->most) {
        struct shm_loan *loan = &batch->loans[batch->count];
        int status = look(ring, *head, loan);
        if (status == SHM_OK) {
            if (!batch->count)
                batch->hold = choose_hold(ring, batch, loan->length);
            else if (!may_follow(ring, batch, loan->length))
                return SHM_OK;
            hold(ring, batch, head->position);
        } else if (status == SHM_NOT_HELD) {
            skip(loan->record);
        } else {
            return batch->count ? SHM_OK : status;
        }
        *head = (struct shm_point){loan->end, head->sequence + 1};
    }
    return SHM_OK;
}

static int take(struct shm_ring *ring, struct batch *batch)
{
    struct shm_side *side = &ring->control->consumers;
    struct shm_point head;
    int status = read_point(side, &head);
    if (status != SHM_OK)
        return status;
    uint64_t before = head.position;
    shm_sweep_loans(ring, before);
    status = take_from_head(ring, &head, batch);
    if (status == SHM_EMPTY && (status = shm_take_orphan(ring, before, batch->loans)) == SHM_OK) {
        batch->count = 1;
        batch->hold = SHM_LENT;
    }
    if (batch->count && batch->hold == SHM_UNTOUCHED)
        return status;
    if (batch->count)
        shm_take_in_hand(ring, batch->count);
    if (head.position != before)
        move_to(side, head); /* D: the commit of what was copied */
    return status;
}

int shm_ring_take(struct shm_ring *ring, struct shm_loan *loans, uint32_t most, uint32_t *count,
                  uint8_t *scratch, bool retry)
{
    struct batch batch = {.loans = loans, .most = most, .scratch = scratch};
    *count = 0;
    int status = enter_consumers(ring, retry);
    if (status != SHM_OK)
        return status;
    /* Before the look at the tail: what was committed, or waited, before the end is then seen. */
    bool over = shm_is_over(ring);
    bool stopped = load_acquire(&ring->control->shutdown) == SHM_STOPPED;
    status = stopped ? SHM_SHUT_DOWN : take(ring, &batch);
    leave_consumers(ring);
    *count = batch.count;
    if (batch.count && batch.hold == SHM_COPIED)
        notify_space(ring);
    return status == SHM_EMPTY && over && shm_is_drained(ring) ? SHM_SHUT_DOWN : status;
}

void shm_ring_finish(struct shm_ring *ring, const struct shm_loan *loans, uint32_t count)
{
    const struct shm_loan *last = &loans[count - 1];
    if (last->hold == SHM_COPIED)
        return;
    if (last->hold == SHM_LENT) {
        for (uint32_t i = 0; i < count; i++)
            if (shm_is_mine(ring, &loans[i]))
                store_release(&loans[i].record->state, pack_state(SHM_FREE, 0, 0)); /* D */
    } else {
        shm_take_in_hand(ring, count);
        move_to(&ring->control->consumers,
                (struct shm_point){last->end, last->sequence + 1}); /* D: the commit */
    }
    notify_space(ring);
}
