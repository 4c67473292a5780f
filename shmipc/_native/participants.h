/* Who uses a segment, and who of them is alive.
 *
 * A slot belongs to the process whose open file description holds the kernel's lock on the
 * slot's first byte.  The kernel drops that lock when the process is gone, however it went, and
 * answers for it across pid namespaces (law 2).  Taking the lock is taking the slot: there is no
 * second word that could disagree.  After it the holder writes a new generation into the slot,
 * and from then on the old identity is dead for everybody.
 *
 * Byte 0 of the file is the door.  Joining, leaving and replacing a name happen under a lock on
 * it, so that "nobody is left" and "the name goes" are one step for everybody else. */
#ifndef SHMIPC_PARTICIPANTS_H
#define SHMIPC_PARTICIPANTS_H

#include "segment.h"

/* A descriptor of its own on the segment's file that holds the door, or -1: errno is EAGAIN
 * while another process is in it. */
int shm_lock_door(int fd);
void shm_unlock_door(int door);

/* Gives this process a slot, if it has none yet.  SHM_LOCKED: try again in a moment.
 * `linked`: the segment was found by a name; SHM_GONE if that has been removed since. */
int shm_join(struct shm_segment *segment, bool linked);

/* Gives the slot back.  The last one out marks the file as cleanly closed and, where the header
 * says so, removes `path` (NULL: none); `*last` tells.  Does nothing in a process without slot. */
void shm_leave(struct shm_segment *segment, const char *path, bool *last);

/* Declares a segment of another boot, whose body the caller has put in order, to be of this one and
 * cleanly closed.  SHM_BUSY if somebody uses it. */
int shm_adopt(struct shm_segment *segment);

/* False only if the kernel has reported the death, or the slot has a newer owner.  Costs a system
 * call where that is not known without. */
bool shm_alive(const struct shm_segment *segment, uint32_t identity);

/* Whether the slot is held by anybody now. */
bool shm_slot_held(const struct shm_segment *segment, uint32_t slot);

#endif
