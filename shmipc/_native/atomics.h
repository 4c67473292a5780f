/* The only spellings of memory order in the core.
 *
 * Every access to a word that another process may write goes through one of these, so that the
 * order can be read off the name.  The pairs that carry the protocol have letters, which the code
 * names at both ends:
 *   A  a message's bytes      before READY or the tail  ->  after the load of the same   ring.h
 *   B  work done under a lock before its release        ->  after taking it              lock.h
 *   C  publish, fence, look   against  announce, fence, look: one of the two sees        event.h
 *   D  the reading of bytes   before FREE or the head   ->  before writing over them     ring.h
 *   E  the horizon's move     before writing over loans ->  after reading one            ring_loans.c
 *   F  a fault's mark         before zeros are put there->  after reading them           faults.h
 *   G  work done before a signal (set, post, notify, ->  after the load that sees it     flag.h
 *      arrive, store of a number)
 *   H  a reader enters, fence, looks for a writer   against   the writer's word, fence, looks for
 *      readers: one of the two sees the other                                           rwlock.h
 *   I  a party leaves, fence, looks for the guard   against   the guard's release, fence, looks for
 *      parties: one of the two sees the other                                           barrier.h
 * docs/guarantees.md says what of it is promised to users. */
#ifndef SHMIPC_ATOMICS_H
#define SHMIPC_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic uint32_t shm_atomic32;
typedef _Atomic uint64_t shm_atomic64;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
               "words shared between processes must be lock-free");

/* The value matters, what surrounds it does not: hints, and words that only we write. */
#define load_relaxed(word) atomic_load_explicit((word), memory_order_relaxed)
#define store_relaxed(word, value) atomic_store_explicit((word), (value), memory_order_relaxed)

/* Everything its writer did before the matching store_release is seen after it. */
#define load_acquire(word) atomic_load_explicit((word), memory_order_acquire)
#define store_release(word, value) atomic_store_explicit((word), (value), memory_order_release)

/* Full exchanges: taking, giving back, and claiming a word. */
#define exchange(word, value) atomic_exchange_explicit((word), (value), memory_order_acq_rel)
#define fetch_add(word, value) atomic_fetch_add_explicit((word), (value), memory_order_acq_rel)
#define fetch_sub(word, value) atomic_fetch_sub_explicit((word), (value), memory_order_acq_rel)
#define compare_exchange(word, expected, desired)                                              \
    atomic_compare_exchange_strong_explicit((word), (expected), (desired),                     \
                                            memory_order_acq_rel, memory_order_acquire)

/* A store before it and a load after it stay in that order (the two halves of edge C). */
#define fence_full() atomic_thread_fence(memory_order_seq_cst)

/* Reading without a right to: what was read before it is checked by a load after it, against a
 * writer that stores what is checked, fences, and writes (the two halves of edge E). */
#define fence_acquire() atomic_thread_fence(memory_order_acquire)
#define fence_release() atomic_thread_fence(memory_order_release)

/* The thread sanitizer cannot know that such a reading is thrown away when it was late.  It is told
 * not to look, and, where the reading counts, what it synchronises with. */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define SHM_RACES_ARE_CHECKED __attribute__((no_sanitize("thread"), noinline))
#define tell_acquired(word) __tsan_acquire(word)
#else
#define SHM_RACES_ARE_CHECKED
#define tell_acquired(word) ((void)0)
#endif

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* The line will be written soon: it is fetched as ours.  The compiler's own prefetch fetches it to
 * be read, on x86-64, and the store would have to ask again. */
static inline void prefetch_to_write(const void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

#endif
