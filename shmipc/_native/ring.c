#include "ring.h"

#include <limits.h>
#include <string.h>

#include "ring_inside.h"

#define PEEK_ATTEMPTS 1000

uint64_t shm_ring_body_size(uint32_t slot_count)
{
    return sizeof(struct shm_ring_control) + slot_count * sizeof(struct shm_peer);
}

static void format_side(struct shm_side *side, uint64_t horizon)
{
    store_relaxed(&side->mark[1].position, UINT64_MAX); /* belongs to no cursor yet */
    store_relaxed(&side->horizon, horizon);
}

void shm_ring_format(struct shm_segment *segment, const struct shm_ring_spec *spec)
{
    struct shm_ring_control *control = (struct shm_ring_control *)shm_body(segment);
    control->capacity = spec->capacity;
    control->max_items = spec->max_items;
    control->flags = spec->flags;
    memcpy(control->codec, spec->codec, sizeof control->codec);
    format_side(&control->producers, 0);
    format_side(&control->consumers, SHM_NO_LOAN);
}

static bool is_plausible(const struct shm_ring *ring)
{
    const struct shm_header *facts = &ring->segment->facts;
    uint64_t capacity = ring->control->capacity;
    return facts->body_size >= shm_ring_body_size(facts->slot_count) &&
           capacity == facts->data_size && capacity >= SHM_GRANULE &&
           (capacity & (capacity - 1)) == 0;
}

int shm_ring_open(struct shm_ring *ring, struct shm_segment *segment, uint32_t spin)
{
    memset(ring, 0, sizeof *ring);
    ring->segment = segment;
    if (segment->facts.body_size < sizeof(struct shm_ring_control))
        return SHM_CORRUPT;
    ring->control = (struct shm_ring_control *)shm_body(segment);
    if (!is_plausible(ring))
        return SHM_CORRUPT;
    ring->peers = (struct shm_peer *)(ring->control + 1);
    ring->data = shm_data(segment);
    ring->mask = segment->facts.data_size - 1;
    ring->max_items = ring->control->max_items;
    ring->flags = ring->control->flags;
    shm_patience_init(&ring->producing, spin);
    shm_patience_init(&ring->consuming, spin);
    ring->producing.closed = ring->consuming.closed = &ring->closed;
    return SHM_OK;
}

bool shm_peek_point(struct shm_side *side, struct shm_point *point)
{
    for (int attempt = 0; attempt < PEEK_ATTEMPTS; attempt++) {
        point->position = load_acquire(&side->cursor);
        for (int i = 0; i < 2; i++) {
            uint64_t position = load_acquire(&side->mark[i].position);
            point->sequence = load_acquire(&side->mark[i].sequence);
            if (position == point->position && load_acquire(&side->cursor) == position)
                return true;
        }
    }
    return false;
}

/* Messages between the cursors; the consumers' is read first, so it is never negative. */
static uint64_t depth_in_ring(const struct shm_ring *ring)
{
    struct shm_point head, tail;
    if (!shm_peek_point(&ring->control->consumers, &head) ||
        !shm_peek_point(&ring->control->producers, &tail))
        return 0;
    return tail.sequence - head.sequence;
}

void shm_ring_counts(const struct shm_ring *ring, uint64_t *put, uint64_t *taken,
                     uint64_t *bytes_used)
{
    struct shm_point head = {0}, tail = {0};
    shm_peek_point(&ring->control->consumers, &head);
    shm_peek_point(&ring->control->producers, &tail);
    *put = tail.sequence;
    *taken = head.sequence;
    *bytes_used = tail.position - head.position;
}

struct shm_peer *shm_peer_of(const struct shm_ring *ring)
{
    uint32_t me = shm_me(ring->segment);
    struct shm_peer *peer = &ring->peers[shm_slot_of(me)];
    if (load_relaxed(&peer->identity) != me) {
        store_relaxed(&peer->waiting, 0);
        store_relaxed(&peer->in_hand, 0);
        store_release(&peer->identity, me);
    }
    return peer;
}

static int64_t sum_of_living(const struct shm_ring *ring, bool in_hand)
{
    int64_t sum = 0;
    for (uint32_t slot = 0; slot < ring->segment->facts.slot_count; slot++) {
        struct shm_peer *peer = &ring->peers[slot];
        uint32_t identity = load_acquire(&peer->identity);
        int64_t count = load_acquire(in_hand ? &peer->in_hand : &peer->waiting);
        if (count && shm_alive(ring->segment, identity))
            sum += count;
    }
    return sum;
}

int64_t shm_sum_waiting(const struct shm_ring *ring)
{
    return load_acquire(&ring->control->maybe_waiting) ? sum_of_living(ring, false) : 0;
}

uint64_t shm_ring_depth(const struct shm_ring *ring)
{
    int64_t waiting = shm_sum_waiting(ring);
    return depth_in_ring(ring) + (uint64_t)(waiting > 0 ? waiting : 0);
}

/* One reading.  What is taken is in hand before the head moves, and is looked for in this order, so
 * a task that travels is counted once or twice, never not at all. */
static int64_t count_unfinished(const struct shm_ring *ring)
{
    int64_t queued = (int64_t)shm_ring_depth(ring);
    int64_t unfinished = queued + sum_of_living(ring, true);
    return unfinished > 0 ? unfinished : (int64_t)shm_count_orphans(ring);
}

/* A worker that puts one task and finishes another between the two halves of a reading makes it
 * zero wrongly; then the number of messages put has changed, and it is read again. */
int64_t shm_ring_unfinished(const struct shm_ring *ring)
{
    struct shm_side *side = &ring->control->producers;
    struct shm_point before, after;
    for (int attempt = 0; attempt < PEEK_ATTEMPTS; attempt++) {
        bool stable = shm_peek_point(side, &before) && shm_sum_waiting(ring) <= 0;
        int64_t unfinished = count_unfinished(ring);
        if (unfinished > 0)
            return unfinished;
        if (stable && shm_peek_point(side, &after) && before.position == after.position &&
            shm_sum_waiting(ring) <= 0)
            return 0;
    }
    return 1;
}

/* Where a task counts: in this process's hand or, if it has none, in another's that took it. */
static struct shm_peer *find_task(const struct shm_ring *ring)
{
    struct shm_peer *mine = shm_peer_of(ring);
    if (load_relaxed(&mine->in_hand) > 0)
        return mine;
    for (uint32_t slot = 0; slot < ring->segment->facts.slot_count; slot++) {
        struct shm_peer *peer = &ring->peers[slot];
        if (load_relaxed(&peer->in_hand) > 0 &&
            shm_alive(ring->segment, load_acquire(&peer->identity)))
            return peer;
    }
    return NULL;
}

int shm_ring_task_done(struct shm_ring *ring)
{
    if (!shm_me(ring->segment))
        return SHM_UNREGISTERED;
    struct shm_peer *peer = find_task(ring);
    if (!peer)
        return SHM_NOT_HELD;
    atomic_fetch_sub(&peer->in_hand, 1);
    if (shm_ring_unfinished(ring) <= 0)
        shm_event_notify(&ring->control->idle, INT_MAX, &ring->places[SHM_AT_IDLE]);
    return SHM_OK;
}

static void wake_everybody(struct shm_ring *ring)
{
    struct shm_ring_control *control = ring->control;
    shm_event_notify(&control->producers.event, INT_MAX, &ring->places[SHM_AT_SPACE]);
    shm_event_notify(&control->consumers.event, INT_MAX, &ring->places[SHM_AT_MESSAGES]);
    shm_event_notify(&control->idle, INT_MAX, &ring->places[SHM_AT_IDLE]);
}

/* With many producers it is set under their lock: who was about to commit has done so before.
 * One producer is not kept out; what it puts at the same time stays in the ring. */
int shm_ring_shut_down(struct shm_ring *ring, enum shm_shutdown how, bool retry)
{
    bool one = ring->flags & SHM_ONE_PRODUCER;
    int status = one ? SHM_OK : enter_producers(ring, retry);
    if (status != SHM_OK)
        return status;
    if (load_relaxed(&ring->control->shutdown) < (uint32_t)how)
        store_release(&ring->control->shutdown, (uint32_t)how);
    leave_producers(ring);
    wake_everybody(ring);
    return SHM_OK;
}

static void release_if_mine(struct shm_ring *ring, struct shm_lock *lock,
                            const struct shm_place *place)
{
    uint32_t me = shm_me(ring->segment);
    if (me && (load_relaxed(&lock->word) & SHM_IDENTITY) == me)
        shm_lock_release(lock, place);
}

void shm_ring_release_sides(struct shm_ring *ring, bool producer, bool consumer)
{
    /* What waits in this process is still to be put by it. */
    bool waiting = shm_me(ring->segment) && load_relaxed(&shm_peer_of(ring)->waiting) > 0;
    if (producer && !waiting && ring->flags & SHM_ONE_PRODUCER)
        release_if_mine(ring, &ring->control->producers.lock, &ring->places[SHM_AT_TAIL]);
    if (consumer && ring->flags & SHM_ONE_CONSUMER)
        release_if_mine(ring, &ring->control->consumers.lock, &ring->places[SHM_AT_HEAD]);
}

void shm_ring_close(struct shm_ring *ring)
{
    ring->closed = 1;
    wake_everybody(ring);
}
