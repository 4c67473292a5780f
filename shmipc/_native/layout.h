/* What lies in shared memory, byte by byte.
 *
 *   0            struct shm_header        the cold description, checksummed
 *   1024         struct shm_slot [slots]  the participants
 *   body_offset  the object's own words   cells of 128 bytes, or a ring's control and its peers
 *   data_offset  data_size bytes          messages or the user's bytes; granule-aligned
 *
 * Rules: fixed-width types, offsets and never pointers; what two processes write at the same time
 * lies 128 bytes apart (two cache lines: the prefetcher fetches them in pairs); the data area
 * begins and ends on a granule (64 KiB, or 2 MiB over huge pages), so that it can be mapped twice
 * back to back on any page size.  A change of anything here is a new SHM_LAYOUT_VERSION. */
#ifndef SHMIPC_LAYOUT_H
#define SHMIPC_LAYOUT_H

#include <stddef.h>

#include "atomics.h"

#define SHM_MAGIC "\x89shmipc\n"
#define SHM_LAYOUT_VERSION 1u
#define SHM_GRANULE 65536u
#define SHM_HOT 128

/* Differs wherever the structs below could mean something else: a machine of the other byte
 * order reads the tag backwards, and atomics of another size do not share a ring. */
#define SHM_ABI                                                                                \
    (0x5A000000u | (uint32_t)sizeof(void *) << 16 | (uint32_t)sizeof(shm_atomic64) << 8 |      \
     (uint32_t)sizeof(shm_atomic32))

enum shm_kind {
    SHM_KIND_SEGMENT = 1,
    SHM_KIND_ARENA,
    SHM_KIND_LOCK,
    SHM_KIND_RLOCK,
    SHM_KIND_SEMAPHORE_LOCK,
    SHM_KIND_RING,
    SHM_KIND_QUEUE,
    SHM_KIND_JOINABLE_QUEUE,
    SHM_KIND_SIMPLE_QUEUE,
    SHM_KIND_SEMAPHORE,
    SHM_KIND_BOUNDED_SEMAPHORE,
    SHM_KIND_EVENT,
    SHM_KIND_CONDITION,
    SHM_KIND_BARRIER,
    SHM_KIND_RWLOCK,
    SHM_KIND_INT64,
    SHM_KIND_UINT64,
    SHM_KIND_CTYPES,
    SHM_KIND_NDARRAY,
};

enum shm_header_flags { SHM_UNLINK_LAST = 1 };

/* Whether the last user left in good order.  Only read when the boot differs. */
enum shm_use { SHM_USE_CLEAN = 0, SHM_USE_OPEN = 1 };

struct shm_header {
    uint8_t magic[8];
    uint32_t layout_version;
    uint32_t abi;
    uint32_t kind;
    uint32_t flags;
    uint64_t file_size;
    uint64_t slots_offset;
    uint32_t slot_count;
    uint32_t slot_size;
    uint64_t body_offset;
    uint64_t body_size;
    uint64_t data_offset;
    uint64_t data_size;
    uint64_t payload_size; /* of the data, what the user asked for */
    uint64_t granule;
    uint8_t cookie[16]; /* random: proves that a reopened descriptor is the same segment */
    uint64_t created;   /* nanoseconds since 1970 */
    uint32_t creator_pid;
    uint32_t creator_uid;
    uint64_t creator_pid_namespace;
    char creator_command[64];
    char semaphores[32]; /* prefix of the posix names that belong to it; empty: none */
    uint32_t semaphore_count;
    uint32_t checksum; /* of every byte above */

    /* Below, words that change; written under the door (see participants.h). */
    uint8_t boot[16];
    shm_atomic32 use;
    shm_atomic32 next_slot;
    uint8_t reserved[1024 - 264];
};

_Static_assert(offsetof(struct shm_header, checksum) == 236, "header layout");
_Static_assert(offsetof(struct shm_header, boot) == 240, "header layout");
_Static_assert(sizeof(struct shm_header) == 1024, "header layout");

/* One process that uses the segment.  `identity` names it everywhere else:
 *     bits 0..9   slot index      bits 10..30  generation, never 0      bit 31  free for the user
 * so that 0 is nobody, and a slot that is used again has another name.  The slot belongs to who
 * holds the kernel's lock on its byte; the rest is written by that process and read by people. */
#define SHM_SLOT_BITS 10
#define SHM_MAX_SLOTS (1u << SHM_SLOT_BITS)
#define SHM_IDENTITY 0x7FFFFFFFu
#define SHM_SLOT_FREE 0x80000000u /* in shm_slot.identity: the last holder left in good order */

static inline uint32_t shm_slot_of(uint32_t identity) { return identity & (SHM_MAX_SLOTS - 1); }

struct shm_slot {
    shm_atomic32 identity;
    uint32_t pid;
    uint64_t pid_namespace;
    uint64_t start_time; /* clock ticks after boot, as in /proc/PID/stat */
    uint64_t joined;     /* nanoseconds since 1970 */
    char command[96];
};

_Static_assert(sizeof(struct shm_slot) == 128, "slot layout");

/* A lock: free (0), or its owner's identity; the top bit says that somebody may sleep. */
#define SHM_SLEEPERS 0x80000000u

enum shm_lock_flags {
    SHM_LOCK_RAISES = 1,  /* a dead owner's lock is nobody's until somebody recovers it */
    SHM_LOCK_IS_LENT = 2, /* whoever took it may end and leave the release to another */
};

struct shm_lock {
    shm_atomic32 word;
    uint32_t flags;       /* written once, before anybody else can see the lock */
    shm_atomic64 holder;  /* pid << 32 | thread, as the kernel numbers them; 0 while it is free */
    shm_atomic32 depth;   /* RLock: how often that thread has taken it */
    shm_atomic32 heir_of; /* the dead owner from whom it was inherited last */
    shm_atomic64 since;   /* stamped by who parks first: how long it has been held at least */
    shm_atomic64 dead_since; /* the `since` of that dead owner */

    /* For people.  The first is written by the holder alone; the others where it is slow anyway. */
    shm_atomic64 acquisitions;
    shm_atomic64 contended; /* taken by who found it held at first */
    shm_atomic64 parks;
    shm_atomic64 deaths;
    shm_atomic64 longest_wait; /* ns, of those who parked */
    uint8_t reserved[SHM_HOT - 80];
};

_Static_assert(sizeof(struct shm_lock) == SHM_HOT, "lock layout");

/* An event count: an epoch and, in bit 0, "somebody may sleep".  See event.h. */
struct shm_event {
    shm_atomic32 word;
    uint8_t reserved[SHM_HOT - 4];
};

_Static_assert(sizeof(struct shm_event) == SHM_HOT, "event layout");

/* What each participant has of something, one word a slot: identity << 32 | count.  It counts only
 * while `identity` is its slot's and lives, so that the dead drop out of every sum (law 9). */
typedef shm_atomic64 shm_ledger;

/* A Semaphore.  Its units are nobody's: the value is the truth. */
#define SHM_SEMAPHORE_MAX 0x7FFFFFFFu

struct shm_semaphore {
    shm_atomic32 value;
    uint8_t reserved[SHM_HOT - 4];
    struct shm_event event;
};

_Static_assert(sizeof(struct shm_semaphore) == 2 * SHM_HOT, "semaphore layout");

/* A BoundedSemaphore.  What is taken is the sum of the ledger; the value is what is left of the
 * bound.  A ledger of as many words as there are slots follows. */
struct shm_bounded {
    struct shm_lock guard; /* of the ledger */
    uint32_t bound;
    shm_atomic32 slots_used; /* no slot from here on has ever taken any */
    uint8_t reserved[SHM_HOT - 8];
    struct shm_event event;
};

_Static_assert(sizeof(struct shm_bounded) == 3 * SHM_HOT, "bounded semaphore layout");

/* An Event: bit 0 is the flag, above it stands how often it was set. */
struct shm_flag {
    shm_atomic32 word;
    uint8_t reserved[SHM_HOT - 4];
    struct shm_event event;
};

_Static_assert(sizeof(struct shm_flag) == 2 * SHM_HOT, "flag layout");

/* One thread that waits for a condition.  It sleeps on the lower half of the word:
 *     bits 0..1  state      bits 2..31  ticket: who came first      bits 32..63  identity */
enum shm_waiter_state { SHM_NO_WAITER = 0, SHM_AWAKE = 1, SHM_ASLEEP = 2, SHM_NOTIFIED = 3 };

struct shm_waiter {
    shm_atomic64 word;
    shm_atomic64 thread; /* for people, as a lock's holder */
};

#define SHM_WAITERS 512u

struct shm_condition {
    shm_atomic32 ticket;       /* the next one's */
    shm_atomic32 waiters_used; /* no place from here on has ever been taken */
    uint8_t lock_cookie[16];   /* which lock it goes with; zeros: the cell in front of this */
    uint32_t lock_cell;
    uint8_t reserved[SHM_HOT - 28];
    struct shm_waiter waiters[SHM_WAITERS];
};

_Static_assert(sizeof(struct shm_waiter) == 16, "waiter layout");
_Static_assert(sizeof(struct shm_condition) == SHM_HOT + 16 * SHM_WAITERS, "condition layout");

/* A Barrier.  `phase` is the state (bits 0..2) and an epoch that every change moves on; who waits
 * sleeps on it.  The ledger that follows counts the parties that have arrived and not left. */
enum shm_phase {
    SHM_FILLING = 0, /* parties arrive */
    SHM_ACTING,      /* all are there, and the last one runs the action */
    SHM_LEAVING,     /* they go; the next round begins when they are gone */
    SHM_RESETTING,   /* the same, but they have met in vain */
    SHM_BROKEN,      /* until it is reset */
};

#define SHM_PHASE 7u
#define SHM_PHASE_STEP 8u

struct shm_barrier {
    struct shm_lock guard; /* of the phase and the ledger */
    shm_atomic32 phase;
    uint32_t parties;
    shm_atomic32 slots_used;
    uint8_t reserved[SHM_HOT - 12];
};

_Static_assert(sizeof(struct shm_barrier) == 2 * SHM_HOT, "barrier layout");

/* What one participant has to do with a RWLock, on a line of its own so that readers do not meet.
 *     bits 0..15 readers that are in      bits 16..31 that wait      bits 32..63 times let in */
struct shm_readers {
    shm_atomic32 identity;
    uint32_t reserved0;
    shm_atomic64 word;
    uint8_t reserved[64 - 16];
};

_Static_assert(sizeof(struct shm_readers) == 64, "readers layout");

/* Who wants to write takes the lock, and then waits for the readers to go.  One shm_readers for
 * each slot follows. */
struct shm_rwlock {
    struct shm_lock writer;
    shm_atomic32 slots_used;
    uint8_t reserved[SHM_HOT - 4];
    struct shm_event readers_go;
    struct shm_event writer_goes;
};

_Static_assert(sizeof(struct shm_rwlock) == 4 * SHM_HOT, "rwlock layout");

/* An AtomicInt64 or AtomicUInt64. */
struct shm_number {
    shm_atomic64 value;
    uint8_t reserved[SHM_HOT - 8];
    struct shm_event event;
};

_Static_assert(sizeof(struct shm_number) == 2 * SHM_HOT, "number layout");

/* What the bytes of a Value, Array or SharedArray are.  `text_size` bytes of text follow, which say
 * the type; the next cell is the object's own lock, if it has one; then, in an arena, the bytes.  In
 * a segment of its own they are the data area.  Written once, before anybody else can see it, and
 * checked by each who comes. */
enum shm_lock_of {
    SHM_NO_LOCK = 0,
    SHM_OWN_LOCK,     /* the cell that follows */
    SHM_SHARED_LOCK,  /* another object, which `lock_cookie` and `lock_cell` name */
    SHM_FOREIGN_LOCK, /* something that is not shmipc's */
};

struct shm_description {
    uint32_t kind; /* SHM_KIND_CTYPES or SHM_KIND_NDARRAY: how the text is to be read */
    uint32_t lock; /* enum shm_lock_of */
    uint64_t size; /* of the bytes */
    uint8_t lock_cookie[16];
    uint32_t lock_cell;
    uint32_t text_size;
    uint8_t reserved[64 - 40];
};

_Static_assert(sizeof(struct shm_description) == 64, "description layout");

/* A message in the ring.  The data area is mapped twice, so a record never wraps.
 *
 *   state   RESERVED  claimed by `identity`, not yet whole
 *           READY     whole; before the head cursor it means: taken and done with
 *           BORROWED  `identity` is reading it; the record behind stays where it is
 *           FREE      given back, its bytes may be written again
 *           ABANDONED its producer died before the commit; there is nothing in it
 *   packed as   identity << 32 | deliveries << 16 | state
 */
enum shm_state { SHM_RESERVED = 1, SHM_READY, SHM_BORROWED, SHM_FREE, SHM_ABANDONED };

struct shm_record {
    shm_atomic64 state;
    uint64_t sequence;
    /* One word, so that it can be read once and then trusted:
     *   bits 0..31   length of the payload, in bytes
     *   bits 32..47  where it begins, from the record's first byte: room for alignment
     *   bits 48..55  tag: how it is to be read; the queue's, not ours
     *   bits 56..63  flags: SHM_IN_EXTENT, the payload is a pair (offset, length) elsewhere */
    shm_atomic64 shape;
};

#define SHM_RECORD_ALIGN 8u
#define SHM_IN_EXTENT 1u

_Static_assert(sizeof(struct shm_record) == 24, "record layout");

/* One side of the ring: a free-running byte position, and which message it stands before.
 * The number lies in the mark whose position equals the cursor.  The other one is written before
 * the cursor moves, so that the one store of the cursor commits the two together (law 9). */
struct shm_mark {
    shm_atomic64 position;
    shm_atomic64 sequence;
};

struct shm_side {
    struct shm_lock lock; /* producers="one": held by that producer for as long as it is one */

    shm_atomic64 cursor;
    struct shm_mark mark[2];
    /* producers: everything before it may be written again.
     * consumers: no record before it is borrowed, and none from it to the head has been written
     *            over; SHM_NO_LOAN: none is borrowed at all. */
    shm_atomic64 horizon;
    uint8_t reserved[SHM_HOT - 48];

    struct shm_event event; /* where this side waits */

    /* Hints of who parks last: how far the other side's cursor and number have to be before a
     * wake is worth a system call.  A wrong one costs a delay of one re-check, never a hang. */
    shm_atomic64 wanted_position;
    shm_atomic64 wanted_sequence;
    uint8_t reserved2[SHM_HOT - 16];
};

_Static_assert(sizeof(struct shm_side) == 4 * SHM_HOT, "side layout");

#define SHM_NO_LOAN UINT64_MAX

enum shm_ring_flags {
    SHM_ONE_PRODUCER = 1,
    SHM_ONE_CONSUMER = 2,
    SHM_SEMAPHORES = 4, /* sleep on posix semaphores instead of futexes */
    SHM_COUNT_TASKS = 8 /* JoinableQueue: what a process has in hand is counted */
};

enum shm_shutdown { SHM_RUNNING = 0, SHM_DRAINING = 1, SHM_STOPPED = 2 };

struct shm_ring_control {
    uint64_t capacity; /* of the data area in bytes: a multiple of the granule */
    uint64_t max_items;
    uint32_t flags;
    uint32_t reserved0;
    char codec[16];
    uint8_t reserved1[SHM_HOT - 40];

    shm_atomic32 shutdown;
    shm_atomic32 maybe_waiting; /* a producer may hold messages that did not fit */
    uint8_t reserved2[SHM_HOT - 8];

    struct shm_side producers; /* its event: space */
    struct shm_side consumers; /* its event: messages */
    struct shm_event idle;     /* JoinableQueue.join */
};

_Static_assert(sizeof(struct shm_ring_control) == 3 * SHM_HOT + 2 * 4 * SHM_HOT, "ring layout");

/* What one participant has to do with a ring; counted only while `identity` is its slot's, so
 * that the words of the dead drop out of every sum by themselves. */
struct shm_peer {
    shm_atomic32 identity;
    uint32_t reserved0;
    _Atomic int64_t waiting; /* messages put, that did not fit and wait in the process */
    _Atomic int64_t in_hand; /* tasks taken less tasks done */
    uint8_t reserved[64 - 24];
};

_Static_assert(sizeof(struct shm_peer) == 64, "peer layout");

#endif
