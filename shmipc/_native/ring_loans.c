/* Loans: which messages before the head are being read, and how far the bytes there are free.
 *
 * A consumer lends itself the message at the head (BORROWED, with its identity), reads it, and
 * gives it back (FREE) by one store, at any time and in any order.  The horizon says from where on
 * to look for loans.  Producers in need of space walk from it, over what has been given back, and
 * move it on; consumers move it on whenever they take, so that producers seldom have to walk.
 *
 * A walk reads records that others may move the horizon over, and then write over, at the same
 * time.  So the horizon is looked at again after each record (edge E): if it is still not past the
 * record, then what was read of it is whole; if it is, the walk goes on from there.  The horizon
 * only ever grows, until it becomes SHM_NO_LOAN, which only consumers store. */
#include "ring_inside.h"

#define NOBODY 0 /* a loan given back unread, for anybody to take */

struct walker {
    const struct shm_ring *ring;
    uint64_t position, head;
    struct shm_record *record;
    uint64_t state, shape, size;
};

static shm_atomic64 *horizon_of(const struct shm_ring *ring)
{
    return &ring->control->consumers.horizon;
}

/* From the horizon up to `head`; nothing, if nothing there is borrowed. */
static struct walker walk_to(const struct shm_ring *ring, uint64_t head)
{
    return (struct walker){
        .ring = ring, .position = load_acquire(horizon_of(ring)), .head = head};
}

/* Reads the record at the walker's position, which is not moved: SHM_OK, SHM_EMPTY at the end.
 * What it reads may be written over at the same time, and is then thrown away. */
SHM_RACES_ARE_CHECKED static int read_loan(struct walker *walker)
{
    while (walker->position < walker->head) {
        if (walker->head - walker->position > shm_ring_capacity(walker->ring))
            return SHM_CORRUPT;
        walker->record = record_at(walker->ring, walker->position);
        walker->state = load_acquire(&walker->record->state); /* D */
        walker->shape = load_relaxed(&walker->record->shape);
        walker->size = size_of(walker->shape, walker->head - walker->position);
        fence_acquire(); /* E */
        uint64_t horizon = load_acquire(horizon_of(walker->ring)); /* D, if it has moved */
        if (horizon <= walker->position) {
            tell_acquired(&walker->record->state);
            return walker->size ? SHM_OK : SHM_CORRUPT;
        }
        tell_acquired(horizon_of(walker->ring));
        walker->position = horizon;
    }
    return SHM_EMPTY;
}

/* Before the head, READY means taken by the only consumer. */
static bool is_returned(uint64_t word)
{
    enum shm_state state = state_of(word);
    return state == SHM_FREE || state == SHM_READY || state == SHM_ABANDONED;
}

/* The first position from the horizon on whose record is lent: `head` if none is. */
static int find_loan(const struct shm_ring *ring, uint64_t head, uint64_t *position)
{
    struct walker walker = walk_to(ring, head);
    int status;
    while ((status = read_loan(&walker)) == SHM_OK && is_returned(walker.state))
        walker.position += walker.size;
    *position = walker.position < head ? walker.position : head;
    return status == SHM_CORRUPT ? SHM_CORRUPT : SHM_OK;
}

/* The head is read before the horizon: who lends sets the horizon first, so that a head past a
 * loan comes with a horizon that is not (edge D). */
int shm_find_free(const struct shm_ring *ring, uint64_t *free_to)
{
    uint64_t from = load_acquire(&ring->control->producers.horizon);
    uint64_t head = load_acquire(&ring->control->consumers.cursor);
    if (head - from > shm_ring_capacity(ring))
        return SHM_CORRUPT;
    return find_loan(ring, head, free_to);
}

void shm_move_horizon(struct shm_ring *ring, uint64_t to)
{
    uint64_t horizon = load_relaxed(horizon_of(ring));
    while (horizon < to && !compare_exchange(horizon_of(ring), &horizon, to))
        ;
    fence_release(); /* E */
}

/* Failing to move it means that a producer has, meanwhile; the next take sweeps again. */
void shm_sweep_loans(struct shm_ring *ring, uint64_t head)
{
    uint64_t horizon = load_relaxed(horizon_of(ring)), loan;
    if (horizon == SHM_NO_LOAN || find_loan(ring, head, &loan) != SHM_OK)
        return;
    compare_exchange(horizon_of(ring), &horizon, loan < head ? loan : SHM_NO_LOAN);
}

/* Horizon, state, head: in this order. */
void shm_lend(struct shm_ring *ring, struct shm_loan *loan, uint64_t position)
{
    if (load_relaxed(horizon_of(ring)) == SHM_NO_LOAN)
        store_release(horizon_of(ring), position);
    store_release(&loan->record->state,
                  pack_state(SHM_BORROWED, shm_me(ring->segment), loan->deliveries));
    loan->hold = SHM_LENT;
}

/* A child of fork that inherited the loan has another identity, and changes nothing. */
bool shm_is_mine(const struct shm_ring *ring, const struct shm_loan *loan)
{
    return loan->hold == SHM_LENT &&
           load_relaxed(&loan->record->state) ==
               pack_state(SHM_BORROWED, shm_me(ring->segment), loan->deliveries);
}

/* A record that is lent stays where it is, so the swap is on what was read. */
static bool take_over(struct shm_ring *ring, const struct walker *walker, struct shm_loan *loan)
{
    uint16_t deliveries = deliveries_of(walker->state);
    deliveries += deliveries < UINT16_MAX;
    uint64_t seen = walker->state;
    uint64_t mine = pack_state(SHM_BORROWED, shm_me(ring->segment), deliveries);
    if (!compare_exchange(&walker->record->state, &seen, mine))
        return false;
    *loan = (struct shm_loan){.record = walker->record,
                              .bytes = (uint8_t *)(walker->record + 1),
                              .length = length_of(walker->shape),
                              .tag = tag_of(walker->shape),
                              .hold = SHM_LENT,
                              .deliveries = deliveries,
                              .sequence = walker->record->sequence,
                              .end = walker->position + walker->size};
    return true;
}

/* The next record that is lent to somebody dead; `*living` spares the kernel questions. */
static int find_orphan(struct walker *walker, uint32_t *living)
{
    int status;
    for (; (status = read_loan(walker)) == SHM_OK; walker->position += walker->size) {
        uint32_t borrower = holder_of(walker->state);
        if (state_of(walker->state) != SHM_BORROWED || (borrower && borrower == *living))
            continue;
        if (!shm_alive(walker->ring->segment, borrower))
            return SHM_OK;
        *living = borrower;
    }
    return status;
}

int shm_take_orphan(struct shm_ring *ring, uint64_t head, struct shm_loan *loan)
{
    struct walker walker = walk_to(ring, head);
    uint32_t living = NOBODY;
    int status;
    while ((status = find_orphan(&walker, &living)) == SHM_OK) {
        if (take_over(ring, &walker, loan))
            return SHM_OK;
        walker.position += walker.size;
    }
    return status;
}

uint64_t shm_count_orphans(const struct shm_ring *ring)
{
    struct walker walker = walk_to(ring, load_acquire(&ring->control->consumers.cursor));
    uint32_t living = NOBODY;
    uint64_t orphans = 0;
    for (; find_orphan(&walker, &living) == SHM_OK; walker.position += walker.size)
        orphans++;
    return orphans;
}

void shm_ring_give_back(struct shm_ring *ring, const struct shm_loan *loans, uint32_t count)
{
    for (uint32_t i = 0; i < count && loans[i].hold != SHM_UNTOUCHED; i++) {
        shm_take_in_hand(ring, -1);
        if (shm_is_mine(ring, &loans[i]))
            store_release(&loans[i].record->state,
                          pack_state(SHM_BORROWED, NOBODY, loans[i].deliveries));
    }
    notify_messages(ring, count);
}
