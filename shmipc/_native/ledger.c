#include "ledger.h"

static uint32_t identity_in(uint64_t word) { return (uint32_t)(word >> 32); }
static uint32_t count_in(uint64_t word) { return (uint32_t)word; }

void shm_use_slot(shm_atomic32 *slots_used, uint32_t slot)
{
    uint32_t used = load_relaxed(slots_used);
    while (used <= slot && !compare_exchange(slots_used, &used, slot + 1))
        ;
}

uint32_t shm_slots_used(const struct shm_segment *segment, const shm_atomic32 *slots_used)
{
    uint32_t used = load_acquire(slots_used), count = segment->facts.slot_count;
    return used < count ? used : count;
}

uint32_t shm_ledger_of(const struct shm_book *book, uint32_t identity)
{
    uint64_t word = load_acquire(&book->ledger[shm_slot_of(identity)]);
    return identity_in(word) == identity ? count_in(word) : 0;
}

/* What the one before us in this slot had is dropped with the same store. */
void shm_ledger_add(const struct shm_book *book, uint32_t me)
{
    shm_ledger *mine = &book->ledger[shm_slot_of(me)];
    shm_use_slot(book->slots_used, shm_slot_of(me));
    uint64_t word = load_relaxed(mine), more;
    do
        more = (identity_in(word) == me ? word : (uint64_t)me << 32) + 1;
    while (!compare_exchange(mine, &word, more));
}

static bool take_one(shm_ledger *entry, uint32_t identity)
{
    uint64_t word = load_relaxed(entry);
    while (identity_in(word) == identity && count_in(word))
        if (compare_exchange(entry, &word, word - 1))
            return true;
    return false;
}

bool shm_ledger_take(const struct shm_book *book, uint32_t me)
{
    return take_one(&book->ledger[shm_slot_of(me)], me);
}

/* The count of one slot, if it is that of whoever has the slot now, or had it last. */
static uint32_t count_of(const struct shm_book *book, uint32_t slot)
{
    uint64_t word = load_acquire(&book->ledger[slot]); /* G */
    uint32_t holder = load_relaxed(&book->segment->slots[slot].identity);
    return identity_in(word) == holder ? count_in(word) : 0;
}

bool shm_ledger_take_any(const struct shm_book *book)
{
    uint32_t used = shm_slots_used(book->segment, book->slots_used);
    for (uint32_t slot = 0; slot < used; slot++) {
        uint32_t identity = load_relaxed(&book->segment->slots[slot].identity);
        if (count_of(book, slot) && take_one(&book->ledger[slot], identity))
            return true;
    }
    return false;
}

uint64_t shm_ledger_sum(const struct shm_book *book)
{
    uint64_t sum = 0;
    uint32_t used = shm_slots_used(book->segment, book->slots_used);
    for (uint32_t slot = 0; slot < used; slot++)
        sum += count_of(book, slot);
    return sum;
}

static bool is_dead(const struct shm_book *book, uint32_t slot, uint64_t word)
{
    uint32_t identity = identity_in(word);
    return count_in(word) &&
           (shm_slot_of(identity) != slot || !shm_alive(book->segment, identity));
}

bool shm_ledger_has_dead(const struct shm_book *book)
{
    uint32_t used = shm_slots_used(book->segment, book->slots_used);
    for (uint32_t slot = 0; slot < used; slot++)
        if (is_dead(book, slot, load_acquire(&book->ledger[slot])))
            return true;
    return false;
}

bool shm_ledger_drop_dead(const struct shm_book *book)
{
    bool found = false;
    uint32_t used = shm_slots_used(book->segment, book->slots_used);
    for (uint32_t slot = 0; slot < used; slot++) {
        uint64_t word = load_acquire(&book->ledger[slot]);
        if (is_dead(book, slot, word) && compare_exchange(&book->ledger[slot], &word, 0))
            found = true;
    }
    return found;
}
