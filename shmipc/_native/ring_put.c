#include <limits.h>
#include <string.h>

#include "ring_inside.h"

/* How far before its turn a record is asked for: fetching its line from a consumer's cache takes as
 * long as putting several messages.  The second mapping makes the address right at the end, too. */
#define AHEAD 2048

static void write_record(struct shm_record *record, uint64_t state, uint64_t sequence,
                         uint64_t length, uint8_t tag)
{
    store_relaxed(&record->state, state); /* the tail's store publishes it, edge A */
    record->sequence = sequence;
    store_relaxed(&record->shape, pack_shape(length, tag));
}

/* Looks for room up to `end`, under the producers' right. */
static int reclaim(struct shm_ring *ring, uint64_t end)
{
    uint64_t free_to;
    int status = shm_find_free(ring, &free_to);
    if (status != SHM_OK)
        return status;
    shm_move_horizon(ring, free_to);
    store_relaxed(&ring->control->producers.horizon, free_to);
    ring->known_free = free_to;
    return end - free_to <= shm_ring_capacity(ring) ? SHM_OK : SHM_FULL;
}

/* Messages waiting in living processes; the flag is cleared by who finds none, and set only under
 * the right that he has. */
static uint64_t count_waiting(struct shm_ring *ring)
{
    if (!load_relaxed(&ring->control->maybe_waiting))
        return 0;
    int64_t waiting = shm_sum_waiting(ring);
    if (waiting <= 0)
        store_relaxed(&ring->control->maybe_waiting, 0);
    return waiting > 0 ? (uint64_t)waiting : 0;
}

static int allow_item(struct shm_ring *ring, uint64_t sequence)
{
    struct shm_point head;
    uint64_t waiting = count_waiting(ring);
    if (sequence - ring->known_sequence + waiting < ring->max_items)
        return SHM_OK;
    if (!shm_peek_point(&ring->control->consumers, &head))
        return SHM_CORRUPT;
    ring->known_sequence = head.sequence;
    return sequence - head.sequence + waiting < ring->max_items ? SHM_OK : SHM_FULL_ITEMS;
}

/* Whether a record of `size` bytes may follow at `tail`. */
static inline int make_room(struct shm_ring *ring, struct shm_point tail, uint64_t size,
                            bool counted)
{
    if (ring->max_items && !counted) {
        int status = allow_item(ring, tail.sequence);
        if (status != SHM_OK)
            return status;
    }
    uint64_t end = tail.position + size;
    if (end - ring->known_free <= shm_ring_capacity(ring))
        return SHM_OK;
    return reclaim(ring, end);
}

static inline int append(struct shm_ring *ring, struct shm_point *tail,
                         const struct shm_message *message)
{
    uint64_t size = shm_record_size(message->length);
    int status = make_room(ring, *tail, size, message->waited);
    if (status != SHM_OK)
        return status;
    struct shm_record *record = record_at(ring, tail->position);
    prefetch_to_write((const uint8_t *)record + AHEAD);
    write_record(record, SHM_READY, tail->sequence, message->length, message->tag);
    memcpy(record + 1, message->bytes, message->length);
    tail->position += size;
    tail->sequence++;
    return SHM_OK;
}

/* After the end nothing is put any more but what was already waiting. */
static bool is_refused(const struct shm_ring *ring, bool waited)
{
    uint32_t shutdown = load_acquire(&ring->control->shutdown);
    return shutdown == SHM_STOPPED || (shutdown == SHM_DRAINING && !waited);
}

static int begin_put(struct shm_ring *ring, struct shm_point *tail, bool waited, bool retry)
{
    int status = enter_producers(ring, retry);
    if (status != SHM_OK)
        return status;
    status = is_refused(ring, waited) ? SHM_SHUT_DOWN
                                      : read_point(&ring->control->producers, tail);
    if (status != SHM_OK)
        leave_producers(ring);
    return status;
}

int shm_ring_put(struct shm_ring *ring, const struct shm_message *messages, uint32_t count,
                 uint32_t *done, bool retry)
{
    struct shm_point tail;
    uint32_t n = 0;
    uint64_t copied = 0;
    uint64_t most = ring->flags & SHM_ONE_PRODUCER ? UINT64_MAX : SHM_SHORT; /* law 10 */
    *done = 0;
    int status = begin_put(ring, &tail, messages[0].waited, retry);
    if (status != SHM_OK)
        return status;
    while (n < count && (copied += messages[n].length) <= most &&
           (status = append(ring, &tail, &messages[n])) == SHM_OK)
        n++;
    if (n) {
        move_to(&ring->control->producers, tail); /* A: the commit of all */
        if (messages[0].waited)
            shm_ring_unwait(ring, n);
        *done = n;
        status = SHM_OK;
    }
    leave_producers(ring);
    if (n)
        notify_messages(ring, n);
    return status;
}

int shm_ring_reserve(struct shm_ring *ring, const struct shm_message *message,
                     struct shm_loan *loan, bool retry)
{
    struct shm_point tail;
    uint64_t size = shm_record_size(message->length);
    int status = begin_put(ring, &tail, message->waited, retry);
    if (status != SHM_OK)
        return status;
    status = make_room(ring, tail, size, message->waited);
    if (status == SHM_OK) {
        struct shm_record *record = record_at(ring, tail.position);
        uint64_t state = pack_state(SHM_RESERVED, shm_me(ring->segment), 0);
        write_record(record, state, tail.sequence, message->length, message->tag);
        *loan = (struct shm_loan){.record = record,
                                  .bytes = (uint8_t *)(record + 1),
                                  .length = (uint32_t)message->length,
                                  .tag = message->tag,
                                  .sequence = tail.sequence,
                                  .end = tail.position + size};
        move_to(&ring->control->producers,
                (struct shm_point){tail.position + size, tail.sequence + 1});
        if (message->waited)
            shm_ring_unwait(ring, 1);
    }
    leave_producers(ring);
    return status;
}

/* A child of fork that inherited the loan has another identity, and changes nothing. */
static int settle(struct shm_ring *ring, const struct shm_loan *loan, enum shm_state state)
{
    uint64_t mine = pack_state(SHM_RESERVED, shm_me(ring->segment), 0);
    if (load_relaxed(&loan->record->state) != mine)
        return SHM_NOT_HELD;
    store_release(&loan->record->state, pack_state(state, 0, 0)); /* A: the commit */
    /* Wakes for what was put behind it have been spent in vain, while it was not whole. */
    bool last = load_relaxed(&ring->control->producers.cursor) == loan->end;
    notify_messages(ring, last ? 1 : INT_MAX);
    return SHM_OK;
}

int shm_ring_commit(struct shm_ring *ring, const struct shm_loan *loan)
{
    return settle(ring, loan, SHM_READY);
}

void shm_ring_abandon(struct shm_ring *ring, const struct shm_loan *loan)
{
    settle(ring, loan, SHM_ABANDONED);
}

int shm_ring_await(struct shm_ring *ring, bool retry)
{
    struct shm_point tail;
    int status = begin_put(ring, &tail, false, retry);
    if (status != SHM_OK)
        return status;
    if (ring->max_items)
        status = allow_item(ring, tail.sequence);
    if (status == SHM_OK) {
        store_release(&ring->control->maybe_waiting, 1);
        atomic_fetch_add(&shm_peer_of(ring)->waiting, 1);
    }
    leave_producers(ring);
    return status;
}

/* Consumers of a stream that has ended wait for what still waits: the last of it ends their wait. */
void shm_ring_unwait(struct shm_ring *ring, uint32_t count)
{
    if (!shm_me(ring->segment))
        return;
    atomic_fetch_sub(&shm_peer_of(ring)->waiting, count);
    if (load_acquire(&ring->control->shutdown))
        notify_messages(ring, INT_MAX);
}
