/* A lock for one writer or many readers.
 *
 *   who reads                                 who writes
 *   R1  one more in his own word              W1  takes the writers' lock
 *   R2  fence                            (H)  W2  fence                                    (H)
 *   R3  looks at the writers' lock:           W3  looks at the readers' words: waits until
 *       free, he is in; else takes R1             nobody who lives is in
 *       back and waits                        W4  writes
 *                                             W5  lets in who waits, word by word
 *                                             W6  releases the writers' lock, wakes them
 *
 * Edge H: of the two fences one comes first, so either R3 sees the lock or W3 sees the reader.  A
 * writer is not starved: from W1 on nobody new comes in.  Nor are readers: W5 lets in all that waited
 * while he wrote, before the next writer can have the lock, and that one waits for them at W3.
 *
 * What a reader has is a word of his process, that counts only while it lives.  A dead writer's lock is
 * inherited as any; the heir is told only if the dead one had come to W4, which `depth` says: before
 * it, nothing was written.  A reader may be the heir, and then goes from writer to reader.  An heir
 * who dies before he releases leaves the mark to his own heir.
 *
 * Edge B: what was written before W6 is seen after R3, W1 and by who was let in at W5; what was read
 * before a reader's leaving is over at W3. */
#ifndef SHMIPC_RWLOCK_H
#define SHMIPC_RWLOCK_H

#include "event.h"
#include "ledger.h"
#include "lock.h"

uint64_t shm_rwlock_size(uint32_t slot_count);

/* --- reading --- */

/* SHM_OK: in.  SHM_INHERITED: in, and a writer died writing.  SHM_OWNER_DIED, if that has to be recovered
 * first.  SHM_NOT_NOW.  SHM_NO_PLACE: this process reads it 65535 times already. */
int shm_rwlock_try_read(const struct shm_segment *segment, struct shm_rwlock *rwlock);

/* One who waits to be let in. */
struct shm_queued {
    struct shm_readers *mine;
    struct shm_rwlock *rwlock;
    uint32_t times; /* let in before */
};

/* From here on the next writer to leave lets him in. */
void shm_rwlock_queue(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                      struct shm_queued *queued);

/* Waits until he is in or the writers' lock free, as shm_event_wait does. */
int shm_rwlock_wait_read(const struct shm_segment *segment, struct shm_queued *queued,
                         struct shm_patience *patience, struct shm_wait *wait);

/* He waits no longer: true if he has been let in. */
bool shm_rwlock_unqueue(struct shm_queued *queued);

/* SHM_OK, or SHM_NOT_HELD if this process has not read it. */
int shm_rwlock_release_read(const struct shm_segment *segment, struct shm_rwlock *rwlock);

/* --- writing --- */

/* W1: as shm_lock_try, but SHM_INHERITED only from one who wrote. */
int shm_rwlock_try_write(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                         uint32_t claim);

/* W1 and W2 after a dead writer, whatever the flags say: SHM_OK, or SHM_NOT_HELD if he lives, there is
 * none, or he had not come to W4.  In the last case readers may be in, and the lock is free again. */
int shm_rwlock_recover(const struct shm_segment *segment, struct shm_rwlock *rwlock);

/* W3: whether the writer is alone.  Before it says no, it asks who lives. */
bool shm_rwlock_is_alone(const struct shm_segment *segment, struct shm_rwlock *rwlock);

/* Until the readers look gone, as shm_event_wait does. */
int shm_rwlock_wait_alone(const struct shm_segment *segment, struct shm_rwlock *rwlock,
                          struct shm_patience *patience, struct shm_wait *wait);

/* W4: from now on, a death leaves something half written. */
static inline void shm_rwlock_begin_write(struct shm_rwlock *rwlock)
{
    store_relaxed(&rwlock->writer.depth, 1);
    fence_release(); /* nothing is written before the mark */
}

/* W5 and W6; also for one who gives up before W4. */
int shm_rwlock_release_write(const struct shm_segment *segment, struct shm_rwlock *rwlock);

/* How many living processes' readers are in. */
uint32_t shm_rwlock_readers(const struct shm_segment *segment, struct shm_rwlock *rwlock);

void shm_rwlock_wake_all(struct shm_rwlock *rwlock);

#endif
