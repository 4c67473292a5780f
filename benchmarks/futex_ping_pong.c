/* A turn goes back and forth between two processes through nothing but two futexes: the floor for
 * whatever lets one process sleep until another one wakes it.  benchmarks/sync.py compiles it.
 *
 * Nobody spins, and nobody asks whether the other one sleeps: each hand-over is one store and one
 * wake, each wait one sleep.  What remains is the system's. */
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef _Atomic uint32_t word;

struct table {
    _Alignas(128) word there; /* 1: the turn is the follower's */
    _Alignas(128) word back;  /* 1: it is the leader's */
};

static void hand_over(word *turn)
{
    atomic_store(turn, 1);
    syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await(word *turn)
{
    while (atomic_load(turn) == 0)
        syscall(SYS_futex, turn, FUTEX_WAIT, 0, NULL, NULL, 0);
    atomic_store(turn, 0);
}

void lead(struct table *table, long turns)
{
    while (turns--) {
        hand_over(&table->there);
        await(&table->back);
    }
}

void follow(struct table *table, long turns)
{
    while (turns--) {
        await(&table->there);
        hand_over(&table->back);
    }
}
