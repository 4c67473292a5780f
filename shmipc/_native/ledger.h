/* What each participant has of something: one word a slot, written by that participant, and summed
 * by the others (law 9).  A word whose identity is not its slot's any more, or whose process is
 * dead, counts for nothing; so nothing has to be done when somebody dies.
 *
 * Only the slots before `slots_used` are looked at: whoever writes into his word for the first time
 * raises it before. */
#ifndef SHMIPC_LEDGER_H
#define SHMIPC_LEDGER_H

#include "participants.h"

struct shm_book {
    const struct shm_segment *segment;
    shm_ledger *ledger;
    shm_atomic32 *slots_used;
};

static inline uint64_t shm_ledger_size(uint32_t slot_count)
{
    return slot_count * sizeof(shm_ledger);
}

/* Raises it past this slot; also for tables of other things with a line for each slot. */
void shm_use_slot(shm_atomic32 *slots_used, uint32_t slot);

/* How many slots have to be looked at. */
uint32_t shm_slots_used(const struct shm_segment *segment, const shm_atomic32 *slots_used);

/* How many `identity` has. */
uint32_t shm_ledger_of(const struct shm_book *book, uint32_t identity);

/* One more for `me`. */
void shm_ledger_add(const struct shm_book *book, uint32_t me);

/* One less for `me`; false if there is none. */
bool shm_ledger_take(const struct shm_book *book, uint32_t me);

/* One less for anybody who has some. */
bool shm_ledger_take_any(const struct shm_book *book);

/* What all have together.  Asks nobody: the dead count until their slot is taken again, or they
 * are dropped. */
uint64_t shm_ledger_sum(const struct shm_book *book);

/* Asks the kernel about everybody else who has something: whether one of them is dead. */
bool shm_ledger_has_dead(const struct shm_book *book);

/* The same, and the dead have nothing from now on. */
bool shm_ledger_drop_dead(const struct shm_book *book);

#endif
