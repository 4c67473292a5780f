/* What the ring's own files share: reading cursors and records, and taking a side. */
#ifndef SHMIPC_RING_INSIDE_H
#define SHMIPC_RING_INSIDE_H

#include "ring.h"

/* A cursor with the number of the message it stands before. */
struct shm_point {
    uint64_t position;
    uint64_t sequence;
};

static inline uint64_t pack_state(enum shm_state state, uint32_t identity, uint16_t deliveries)
{
    return (uint64_t)identity << 32 | (uint64_t)deliveries << 16 | state;
}

static inline enum shm_state state_of(uint64_t word) { return (enum shm_state)(word & 0xFFFF); }
static inline uint32_t holder_of(uint64_t word) { return (uint32_t)(word >> 32); }
static inline uint16_t deliveries_of(uint64_t word) { return (uint16_t)(word >> 16); }

static inline struct shm_record *record_at(const struct shm_ring *ring, uint64_t position)
{
    return (struct shm_record *)(ring->data + (position & ring->mask & -(uint64_t)SHM_RECORD_ALIGN));
}

static inline uint64_t pack_shape(uint64_t length, uint8_t tag)
{
    return length | (uint64_t)sizeof(struct shm_record) << 32 | (uint64_t)tag << 48;
}

static inline uint32_t length_of(uint64_t shape) { return (uint32_t)shape; }
static inline uint16_t offset_of(uint64_t shape) { return (uint16_t)(shape >> 32); }
static inline uint8_t tag_of(uint64_t shape) { return (uint8_t)(shape >> 48); }
static inline uint8_t flags_of(uint64_t shape) { return (uint8_t)(shape >> 56); }

/* The bytes that a record of this shape takes, or 0 if it is impossible within `room`. */
static inline uint64_t size_of(uint64_t shape, uint64_t room)
{
    uint64_t size = shm_record_size(length_of(shape));
    bool known = offset_of(shape) == sizeof(struct shm_record) && flags_of(shape) == 0;
    return known && size <= room ? size : 0;
}

/* The side's own reading, under its exclusive right: SHM_CORRUPT if no mark fits the cursor. */
static inline int read_point(struct shm_side *side, struct shm_point *point)
{
    point->position = load_relaxed(&side->cursor);
    for (int i = 0; i < 2; i++)
        if (load_relaxed(&side->mark[i].position) == point->position) {
            point->sequence = load_relaxed(&side->mark[i].sequence);
            return SHM_OK;
        }
    return SHM_CORRUPT;
}

/* Everybody's reading, beside a writer: false if it could not be had in a few attempts. */
bool shm_peek_point(struct shm_side *side, struct shm_point *point);

/* Moves the cursor; the last store is the commit.  Edge A (tail) or D (head).  The mark that
 * belongs to the cursor as it is stays untouched, so that it is right until the cursor moves; the
 * stores into the other are releases, so that who sees one of them also sees the cursor that made
 * this mark the other one (shm_peek_point looks at it again). */
static inline void move_to(struct shm_side *side, struct shm_point point)
{
    uint64_t now = load_relaxed(&side->cursor);
    struct shm_mark *mark = &side->mark[load_relaxed(&side->mark[0].position) == now];
    store_release(&mark->position, point.position);
    store_release(&mark->sequence, point.sequence);
    store_release(&side->cursor, point.position);
}

/* Takes the exclusive right to a side.  With one producer (consumer) it is kept. */
static inline int enter_side(struct shm_ring *ring, struct shm_side *side, bool one, bool retry)
{
    uint32_t me = shm_me(ring->segment);
    if (!me)
        return SHM_UNREGISTERED;
    if (one && load_relaxed(&side->lock.word) == me)
        return SHM_OK;
    int status = shm_lock_try(ring->segment, &side->lock, me | (retry ? SHM_SLEEPERS : 0));
    if (status == SHM_INHERITED) /* the dead left nothing half done: everything has one commit */
        return SHM_OK;
    return one && status == SHM_LOCKED ? SHM_BUSY : status;
}

static inline void leave_side(struct shm_side *side, bool one, const struct shm_place *place)
{
    if (!one)
        shm_lock_release(&side->lock, place);
}

static inline int enter_producers(struct shm_ring *ring, bool retry)
{
    return enter_side(ring, &ring->control->producers, ring->flags & SHM_ONE_PRODUCER, retry);
}

static inline void leave_producers(struct shm_ring *ring)
{
    leave_side(&ring->control->producers, ring->flags & SHM_ONE_PRODUCER,
               &ring->places[SHM_AT_TAIL]);
}

static inline int enter_consumers(struct shm_ring *ring, bool retry)
{
    return enter_side(ring, &ring->control->consumers, ring->flags & SHM_ONE_CONSUMER, retry);
}

static inline void leave_consumers(struct shm_ring *ring)
{
    leave_side(&ring->control->consumers, ring->flags & SHM_ONE_CONSUMER,
               &ring->places[SHM_AT_HEAD]);
}

static inline void notify_messages(struct shm_ring *ring, uint32_t count)
{
    fence_full();
    if (shm_event_has_sleepers(&ring->control->consumers.event)) {
        shm_event_wake(&ring->control->consumers.event, count, &ring->places[SHM_AT_MESSAGES]);
        ring->producing.wakes++;
    }
}

/* Wakes producers only when there is as much room as the last of them asked for. */
void shm_wake_producers(struct shm_ring *ring);

static inline void notify_space(struct shm_ring *ring)
{
    fence_full();
    if (shm_event_has_sleepers(&ring->control->producers.event))
        shm_wake_producers(ring);
}

/* Loans (ring_loans.c). */

/* How far the bytes before the head are free, from what the consumers have published. */
int shm_find_free(const struct shm_ring *ring, uint64_t *free_to);

/* Says that nothing before `to` is borrowed; after it, and only then, what lies there may be
 * written over. */
void shm_move_horizon(struct shm_ring *ring, uint64_t to);

/* The consumers' part: moves the horizon over what has been given back. */
void shm_sweep_loans(struct shm_ring *ring, uint64_t head);

/* Marks the message at `position`, the head, as lent to us. */
void shm_lend(struct shm_ring *ring, struct shm_loan *loan, uint64_t position);

/* Whether the record is still lent to this process. */
bool shm_is_mine(const struct shm_ring *ring, const struct shm_loan *loan);

/* Takes over one loan of the dead: SHM_EMPTY if there is none. */
int shm_take_orphan(struct shm_ring *ring, uint64_t head, struct shm_loan *loan);

/* Loans of the dead, to be taken again. */
uint64_t shm_count_orphans(const struct shm_ring *ring);

/* This process's own words; made ours on first use. */
struct shm_peer *shm_peer_of(const struct shm_ring *ring);

/* JoinableQueue: so many tasks more in this process's hand. */
static inline void shm_take_in_hand(struct shm_ring *ring, int64_t count)
{
    if (ring->flags & SHM_COUNT_TASKS)
        atomic_fetch_add(&shm_peer_of(ring)->in_hand, count);
}

/* Messages that wait in living processes. */
int64_t shm_sum_waiting(const struct shm_ring *ring);

/* Whether nothing can be put any more that was not claimed before. */
static inline bool shm_is_over(const struct shm_ring *ring)
{
    return load_acquire(&ring->control->shutdown) && shm_sum_waiting(ring) <= 0;
}

/* Whether everything claimed has been taken. */
static inline bool shm_is_drained(const struct shm_ring *ring)
{
    return load_acquire(&ring->control->consumers.cursor) ==
           load_acquire(&ring->control->producers.cursor);
}

#endif
