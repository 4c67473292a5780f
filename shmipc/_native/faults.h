/* What happens when memory under a mapping is gone: a truncated file, a broken disk, a full file
 * system.  The kernel then answers a load or store with SIGBUS.
 *
 * Copies that go through the kernel get an error instead (region_copy.c).  For plain loads and
 * stores there is this guard: a SIGBUS handler that puts zeros under the fault and all that comes
 * after it in the mapping, in one step, marks the mapping, and goes on.  Whoever uses the mapping
 * asks for the mark afterwards.
 *
 * The handler finds the mapping in a table of watches that it reads without a lock.  The one that
 * it needs cannot change under it: the thread that faulted uses that mapping, which so exists.  Of
 * the others it must only not be misled, so `base` is cleared before `end` changes hands, and read
 * again after it.  The caller serialises adding and removing. */
#ifndef SHMIPC_FAULTS_H
#define SHMIPC_FAULTS_H

#include <stddef.h>
#include <stdint.h>

#include "atomics.h"

struct shm_watch {
    shm_atomic64 base; /* 0: this watch is free */
    shm_atomic64 end;   /* of what lies there now */
    shm_atomic64 limit; /* of the addresses that are ours */
    shm_atomic64 fault; /* 0, or 1 + the offset of the first fault */
    shm_atomic64 page;  /* bytes of one: only whole ones can be replaced */
    shm_atomic32 protection;
    struct shm_watch *next_free;
};

/* Over `reserve` bytes of addresses, of which none is in use yet. */
struct shm_watch *shm_watch_add(uintptr_t base, size_t reserve, size_t page, int protection);
void shm_watch_move_end(struct shm_watch *watch, uintptr_t end);

/* Nothing is watched until it is moved back to its base: the addresses may be another's soon. */
void shm_watch_move_base(struct shm_watch *watch, uintptr_t base);
void shm_watch_protect(struct shm_watch *watch, int protection);
void shm_watch_forget_fault(struct shm_watch *watch);
void shm_watch_remove(struct shm_watch *watch);

/* Edge F: a mark is stored before the zeros are put; who has read them, fences and sees it. */
static inline bool shm_watch_fault(const struct shm_watch *watch, uint64_t *offset)
{
    fence_acquire();
    uint64_t fault = load_relaxed(&watch->fault);
    if (fault)
        *offset = fault - 1;
    return fault != 0;
}

/* Puts the handler on top of those that are there, which get what is not ours.  Again does no
 * harm, and puts it back on top.  0, or -1 with errno. */
int shm_guard_faults(void);

/* Takes it away again if it is on top; else it stays, and passes everything on.  */
void shm_unguard_faults(void);

/* Whether a guard was put on top in this process, and not in a parent: a child's other libraries
 * may have put theirs over it since. */
extern shm_atomic32 shm_guarded;
static inline bool shm_faults_are_guarded(void) { return load_relaxed(&shm_guarded) != 0; }

/* Whether the handler on top is ours at this moment; costs a system call. */
bool shm_guard_is_on_top(void);

#endif
