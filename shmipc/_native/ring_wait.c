/* Waiting for messages, for space, for a side's lock and for the last task.
 *
 * Nothing here takes or commits anything, so these may run without the interpreter's lock; what
 * they find is a reason to look again, under it. */
#include "ring_inside.h"

#define WAKE_FRACTION 16 /* producers are woken when this part of the ring is free */
#define DISTANCE_NS 1000
#define DISTANCE_PAUSE_MOST 1023

typedef bool (*shm_condition)(struct shm_ring *ring, uint64_t argument);

/* A hint: the record at the head may be taken, and its bytes written over, while we look. */
SHM_RACES_ARE_CHECKED static bool is_claimed(const struct shm_ring *ring, uint64_t head)
{
    return state_of(load_acquire(&record_at(ring, head)->state)) == SHM_RESERVED;
}

static bool has_message(struct shm_ring *ring, uint64_t unused)
{
    (void)unused;
    uint64_t head = load_acquire(&ring->control->consumers.cursor);
    if (head != load_acquire(&ring->control->producers.cursor))
        return !is_claimed(ring, head);
    return shm_is_over(ring) || ring->closed;
}

static bool has_items(struct shm_ring *ring, uint64_t spare)
{
    return !ring->max_items || shm_ring_depth(ring) + spare <= ring->max_items;
}

static bool has_bytes(struct shm_ring *ring, uint64_t size)
{
    uint64_t free_to = 0, tail = load_acquire(&ring->control->producers.cursor);
    return shm_find_free(ring, &free_to) != SHM_OK ||
           tail + size - free_to <= shm_ring_capacity(ring);
}

static bool has_space(struct shm_ring *ring, uint64_t size)
{
    return (has_items(ring, 1) && has_bytes(ring, size)) ||
           load_acquire(&ring->control->shutdown) || ring->closed;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* A producer that meets a full ring is in front: letting the consumers get ahead, once, saves
 * both sides from handing every single record over a hot cache line. */
static uint64_t worthwhile(const struct shm_ring *ring, uint64_t size)
{
    return larger(size, shm_ring_capacity(ring) / WAKE_FRACTION);
}

/* For messages that have been waiting: they are counted already, and outlive the end. */
static bool has_room(struct shm_ring *ring, uint64_t size)
{
    return has_bytes(ring, size) || ring->closed ||
           load_acquire(&ring->control->shutdown) == SHM_STOPPED;
}

static bool has_worthwhile_space(struct shm_ring *ring, uint64_t size)
{
    return (has_items(ring, larger(1, ring->max_items / WAKE_FRACTION)) &&
            has_bytes(ring, worthwhile(ring, size))) ||
           load_acquire(&ring->control->shutdown) || ring->closed;
}

static bool is_idle(struct shm_ring *ring, uint64_t unused)
{
    (void)unused;
    return shm_ring_unfinished(ring) <= 0 || ring->closed;
}

static bool spin_until(struct shm_ring *ring, shm_condition condition, uint64_t argument,
                       uint32_t ns)
{
    struct shm_spin spin = {0};
    do
        if (condition(ring, argument))
            return true;
    while (shm_keep_spinning(&spin, ns));
    return false;
}

/* Tells consumers what to wake us for.  Written before the event's bit is set, read after it. */
static void want_space(struct shm_ring *ring, uint64_t size)
{
    struct shm_side *side = &ring->control->producers;
    struct shm_point tail;
    if (!shm_peek_point(side, &tail))
        return;
    uint64_t bytes = tail.position + worthwhile(ring, size);
    uint64_t items = tail.sequence + 1;
    uint64_t capacity = shm_ring_capacity(ring);
    store_relaxed(&side->wanted_position, bytes > capacity ? bytes - capacity : 0);
    store_relaxed(&side->wanted_sequence,
                  ring->max_items && items > ring->max_items ? items - ring->max_items : 0);
}

/* An empty ring always satisfies what anybody wanted, so consumers never go to sleep on it while
 * producers wait for a wake that was saved here. */
void shm_wake_producers(struct shm_ring *ring)
{
    struct shm_side *side = &ring->control->producers;
    struct shm_point head;
    if (shm_peek_point(&ring->control->consumers, &head) &&
        (head.position < load_relaxed(&side->wanted_position) ||
         head.sequence < load_relaxed(&side->wanted_sequence)))
        return;
    shm_event_wake(&side->event, 1, &ring->places[SHM_AT_SPACE]);
    ring->consuming.wakes++;
}

/* Sleeps once.  Whatever ended it, unless it was the deadline or a signal, the caller looks again:
 * it is then that the dead are found. */
static int sleep_once(struct shm_ring *ring, struct shm_event *event, enum shm_ring_place place,
                      struct shm_patience *patience, struct shm_wait *wait,
                      shm_condition condition, uint64_t argument)
{
    uint32_t key = shm_event_prepare(event);
    if (condition(ring, argument))
        return SHM_OK;
    int status = shm_park(&event->word, key, &ring->places[place], patience, wait);
    if (ring->closed)
        return SHM_CLOSED;
    if (status != SHM_TIMED_OUT)
        return status;
    return wait->deadline != SHM_NEVER && shm_now() >= wait->deadline ? SHM_TIMED_OUT : SHM_OK;
}

static bool spin_for(struct shm_ring *ring, struct shm_patience *patience,
                     shm_condition condition, uint64_t argument)
{
    uint32_t budget = shm_spin_budget(patience);
    if (!budget)
        return condition(ring, argument);
    bool in_time = spin_until(ring, condition, argument, budget);
    shm_spun(patience, in_time);
    return in_time;
}

int shm_ring_wait_messages(struct shm_ring *ring, struct shm_wait *wait)
{
    if (spin_for(ring, &ring->consuming, has_message, 0))
        return ring->closed ? SHM_CLOSED : SHM_OK;
    return sleep_once(ring, &ring->control->consumers.event, SHM_AT_MESSAGES, &ring->consuming,
                      wait, has_message, 0);
}

/* A wake may be saved although there is room, so the first sleeps are short. */
int shm_ring_wait_space(struct shm_ring *ring, uint64_t length, bool waited,
                        struct shm_wait *wait)
{
    uint64_t size = shm_record_size(length);
    shm_condition enough = waited ? has_room : has_space;
    shm_condition plenty = waited ? has_room : has_worthwhile_space;
    if (spin_for(ring, &ring->producing, plenty, size) || enough(ring, size))
        return ring->closed ? SHM_CLOSED : SHM_OK;
    want_space(ring, size);
    return sleep_once(ring, &ring->control->producers.event, SHM_AT_SPACE, &ring->producing, wait,
                      enough, size);
}

void shm_ring_pass_on_space(struct shm_ring *ring)
{
    if (shm_event_has_sleepers(&ring->control->producers.event) &&
        has_space(ring, shm_record_size(0)))
        shm_event_wake(&ring->control->producers.event, 1, &ring->places[SHM_AT_SPACE]);
}

int shm_ring_wait_side(struct shm_ring *ring, bool producers, struct shm_wait *wait)
{
    struct shm_side *side = producers ? &ring->control->producers : &ring->control->consumers;
    int status = shm_lock_wait(ring->segment, &side->lock,
                               &ring->places[producers ? SHM_AT_TAIL : SHM_AT_HEAD],
                               producers ? &ring->producing : &ring->consuming, wait);
    return ring->closed ? SHM_CLOSED : status;
}

int shm_ring_wait_idle(struct shm_ring *ring, struct shm_wait *wait)
{
    return sleep_once(ring, &ring->control->idle, SHM_AT_IDLE, &ring->consuming, wait, is_idle, 0);
}

/* A consumer as fast as its producer stays at his heels: each record, fresh from his cache, is
 * pulled over by itself, and both run at the pace of that.  Standing back for a moment, without a
 * look at what he writes, lets them run one behind the other at full speed.  Where it was no use,
 * because there is one message at a time, it is tried ever more seldom. */
static void keep_distance(struct shm_ring *ring)
{
    if (ring->distance_rest) {
        ring->distance_rest--;
        return;
    }
    uint64_t end = shm_now() + DISTANCE_NS;
    while (shm_now() < end)
        cpu_relax();
    bool useful = shm_ring_depth(ring) > 1;
    ring->distance_pause = useful ? 0 : ring->distance_pause * 2 + 1;
    if (ring->distance_pause > DISTANCE_PAUSE_MOST)
        ring->distance_pause = DISTANCE_PAUSE_MOST;
    ring->distance_rest = ring->distance_pause;
}

bool shm_ring_spin_messages(struct shm_ring *ring, uint32_t ns)
{
    if (!spin_until(ring, has_message, 0, ns))
        return false;
    keep_distance(ring);
    return true;
}

bool shm_ring_spin_space(struct shm_ring *ring, uint64_t length, uint32_t ns)
{
    return spin_until(ring, has_worthwhile_space, shm_record_size(length), ns);
}
