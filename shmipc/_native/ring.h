/* The ring: messages between processes, each whole or not there at all.
 *
 * Positions are free-running byte counts; `position & mask` is the place in the data area.
 *
 *      horizon (producers)   <=   head   <=   tail   <=   horizon + capacity
 *      ...may be written...  | taken     | to be taken    | may be written...
 *
 * tail (producers.cursor) and head (consumers.cursor) each move under their own side's exclusive
 * right: a lock for each operation, or, with one producer or consumer, the same lock held for as
 * long as it is that.  Within a process the caller sees to it that one thread at a time is in
 * here (the binding: Python's own lock); only the waits of ring_wait.c may run beside others.
 *
 * Commit points (law 1), and what is left by who dies before it:
 *   a short put       the store of tail                          nothing: bytes behind the tail
 *   a long put        the store of READY into a record that      a RESERVED record, which the
 *                     RESERVED has put before the tail           consumers skip
 *   a short get       the store of head                          nothing: it is taken again
 *   a long get        the store of FREE, after BORROWED          a BORROWED record, which the
 *                                                                next one takes over
 * Edges: A  payload before READY or tail / after the load of the same
 *        D  reading the payload before FREE or head / writing there after the load of the same */
#ifndef SHMIPC_RING_H
#define SHMIPC_RING_H

#include "event.h"
#include "lock.h"

#define SHM_SHORT 512u  /* bytes of payload that may be copied under a lock */
#define SHM_LONG 65536u /* bytes from which a copy is worth letting other threads run */

/* Posix semaphores of a ring, in the order of their names. */
enum shm_ring_place { SHM_AT_TAIL, SHM_AT_HEAD, SHM_AT_SPACE, SHM_AT_MESSAGES, SHM_AT_IDLE };
#define SHM_RING_PLACES 5

struct shm_ring_spec {
    uint64_t capacity; /* a power of two, at least the granule */
    uint64_t max_items;
    uint32_t flags;
    char codec[16];
};

/* A handle: the segment's ring and what this process knows about it. */
struct shm_ring {
    struct shm_segment *segment;
    struct shm_ring_control *control;
    struct shm_peer *peers;
    uint8_t *data;
    uint64_t mask;
    uint64_t max_items;
    uint32_t flags;
    uint64_t known_free;     /* a lower bound of what may be written again */
    uint64_t known_tail;     /* a lower bound of tail */
    uint64_t known_sequence; /* a lower bound of the number at head */
    volatile int closed;
    struct shm_place places[SHM_RING_PLACES];
    struct shm_patience producing, consuming;
    uint32_t distance_rest, distance_pause; /* see keep_distance() */
};

struct shm_message {
    const void *bytes;
    uint64_t length;
    uint8_t tag;
    bool waited; /* counted by shm_ring_await already; alike for all of a batch */
};

/* What a taken message is until shm_ring_finish. */
enum shm_hold {
    SHM_UNTOUCHED, /* in its place; the head moves past it when it is finished (one consumer) */
    SHM_LENT,      /* in its place, BORROWED; FREE when it is finished */
    SHM_COPIED,    /* taken already; its bytes are the caller's */
};

/* A record that this process fills or reads. */
struct shm_loan {
    struct shm_record *record;
    uint8_t *bytes;
    uint32_t length;
    uint8_t tag;
    uint8_t hold;        /* enum shm_hold */
    uint16_t deliveries; /* how often it was taken before by somebody who died */
    uint64_t sequence;
    uint64_t end; /* the position behind it */
};

uint64_t shm_ring_body_size(uint32_t slot_count);
void shm_ring_format(struct shm_segment *segment, const struct shm_ring_spec *spec);
int shm_ring_open(struct shm_ring *ring, struct shm_segment *segment, uint32_t spin);

static inline uint64_t shm_ring_capacity(const struct shm_ring *ring) { return ring->mask + 1; }

static inline uint64_t shm_record_size(uint64_t length)
{
    return (sizeof(struct shm_record) + length + SHM_RECORD_ALIGN - 1) &
           ~(uint64_t)(SHM_RECORD_ALIGN - 1);
}

static inline uint64_t shm_ring_max_message(const struct shm_ring *ring)
{
    uint64_t most = shm_ring_capacity(ring) - sizeof(struct shm_record);
    return most < UINT32_MAX ? most : UINT32_MAX;
}

/* Longer messages are claimed first, filled outside of every lock, and then committed. */
static inline bool shm_ring_is_long(const struct shm_ring *ring, uint64_t length)
{
    return length > (ring->flags & SHM_ONE_PRODUCER ? SHM_LONG : SHM_SHORT);
}

/* `retry`: this process has slept for the side's lock since it last had it. */

/* Puts as many of the messages as there is room for, all short, with one commit and one wake.
 * SHM_OK with `*done` >= 1, or why not even one could be put. */
int shm_ring_put(struct shm_ring *ring, const struct shm_message *messages, uint32_t count,
                 uint32_t *done, bool retry);

/* Claims room for one message, to be filled at loan->bytes; then exactly one of the two below.
 * message->bytes is not looked at. */
int shm_ring_reserve(struct shm_ring *ring, const struct shm_message *message,
                     struct shm_loan *loan, bool retry);
int shm_ring_commit(struct shm_ring *ring, const struct shm_loan *loan);
void shm_ring_abandon(struct shm_ring *ring, const struct shm_loan *loan);

/* Counts one message that fits the number allowed, but not the bytes, as waiting in this process;
 * SHM_FULL_ITEMS if it does not.  Put it later with `waited`, or drop it with shm_ring_unwait. */
int shm_ring_await(struct shm_ring *ring, bool retry);
void shm_ring_unwait(struct shm_ring *ring, uint32_t count);

/* Takes up to `most` messages: SHM_OK with `*count` >= 1.  Read them, then shm_ring_finish, or
 * shm_ring_give_back so that they are taken again.  Short ones are copied to `scratch`, SHM_SHORT
 * bytes, where that is cheaper than lending them; with NULL none is. */
int shm_ring_take(struct shm_ring *ring, struct shm_loan *loans, uint32_t most, uint32_t *count,
                  uint8_t *scratch, bool retry);
void shm_ring_finish(struct shm_ring *ring, const struct shm_loan *loans, uint32_t count);
void shm_ring_give_back(struct shm_ring *ring, const struct shm_loan *loans, uint32_t count);

/* Tasks: SHM_NOT_HELD if there is nothing unfinished. */
int shm_ring_task_done(struct shm_ring *ring);
int64_t shm_ring_unfinished(const struct shm_ring *ring);

/* Messages that were put and not taken, those that wait in a living process included. */
uint64_t shm_ring_depth(const struct shm_ring *ring);
void shm_ring_counts(const struct shm_ring *ring, uint64_t *put, uint64_t *taken,
                     uint64_t *bytes_used);

/* Ends the stream: nothing is put any more; `how` says whether what is there is still taken. */
int shm_ring_shut_down(struct shm_ring *ring, enum shm_shutdown how, bool retry);

/* Gives up a side that this process holds as the only one. */
void shm_ring_release_sides(struct shm_ring *ring, bool producer, bool consumer);

/* Ends every wait of this handle in this process with SHM_CLOSED. */
void shm_ring_close(struct shm_ring *ring);

/* Waits.  SHM_OK: look again, with `retry` after shm_ring_wait_side.  They take nothing and write
 * only what waiters write. */
int shm_ring_wait_messages(struct shm_ring *ring, struct shm_wait *wait);
int shm_ring_wait_space(struct shm_ring *ring, uint64_t length, bool waited,
                        struct shm_wait *wait);
int shm_ring_wait_side(struct shm_ring *ring, bool producers, struct shm_wait *wait);
int shm_ring_wait_idle(struct shm_ring *ring, struct shm_wait *wait);

/* For a producer that has waited and got room: consumers wake one, who wakes the next. */
void shm_ring_pass_on_space(struct shm_ring *ring);

/* Spins up to `ns`, a short while that is cheaper than letting other threads run. */
bool shm_ring_spin_messages(struct shm_ring *ring, uint32_t ns);
bool shm_ring_spin_space(struct shm_ring *ring, uint64_t length, uint32_t ns);

#endif
