#define _GNU_SOURCE
#include "faults.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- the table of watches --------------------------------------------------------------------- */

enum { BLOCK = 512 };

struct block {
    struct shm_watch watches[BLOCK];
    struct block *next;
};

static _Atomic(struct block *) blocks; /* grows at its head, and never shrinks */
static struct shm_watch *free_watches;

static bool add_block(void)
{
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        return false;
    for (int i = 0; i < BLOCK; i++) {
        block->watches[i].next_free = free_watches;
        free_watches = &block->watches[i];
    }
    block->next = load_relaxed(&blocks);
    store_release(&blocks, block);
    return true;
}

struct shm_watch *shm_watch_add(uintptr_t base, size_t reserve, size_t page, int protection)
{
    if (!free_watches && !add_block())
        return NULL;
    struct shm_watch *watch = free_watches;
    free_watches = watch->next_free;
    store_relaxed(&watch->fault, 0);
    store_relaxed(&watch->page, page);
    store_relaxed(&watch->protection, (uint32_t)protection);
    store_relaxed(&watch->end, base);
    store_relaxed(&watch->limit, base + reserve);
    store_release(&watch->base, base);
    return watch;
}

void shm_watch_move_end(struct shm_watch *watch, uintptr_t end) { store_release(&watch->end, end); }

void shm_watch_move_base(struct shm_watch *watch, uintptr_t base)
{
    store_release(&watch->base, base);
}

void shm_watch_protect(struct shm_watch *watch, int protection)
{
    store_relaxed(&watch->protection, (uint32_t)protection);
}

void shm_watch_forget_fault(struct shm_watch *watch) { store_release(&watch->fault, 0); }

void shm_watch_remove(struct shm_watch *watch)
{
    store_release(&watch->base, 0);
    fence_full();
    watch->next_free = free_watches;
    free_watches = watch;
}

static struct shm_watch *find_watch(uintptr_t address)
{
    for (struct block *block = load_acquire(&blocks); block; block = block->next)
        for (int i = 0; i < BLOCK; i++) {
            struct shm_watch *watch = &block->watches[i];
            uint64_t base = load_acquire(&watch->base);
            if (base && base <= address && address < load_acquire(&watch->limit) &&
                load_acquire(&watch->base) == base)
                return watch;
        }
    return NULL;
}

/* --- the handler ------------------------------------------------------------------------------ */

shm_atomic32 shm_guarded;

enum { LEVELS = 8 };

static struct sigaction previous[LEVELS]; /* what lies below each of our handlers */
static uint32_t depth;                    /* how many of them are in use */
static shm_atomic32 wanted;               /* 0: unguarded, but somebody over us still calls us */
static shm_atomic32 echo; /* the thread that has raised SIGBUS to start its fault again */

/* One step for all that is left of the mapping: page by page would use up the mappings that a
 * process may have.  The mark is set once more afterwards, for a remap in between. */
static bool put_memory_under(uintptr_t address)
{
    struct shm_watch *watch = find_watch(address);
    if (!watch)
        return false;
    if (address >= load_acquire(&watch->end))
        return true; /* it has become shorter since, and zeros lie there already */
    uint64_t none = 0, mark = address - load_relaxed(&watch->base) + 1;
    uintptr_t page = address & ~(uintptr_t)(load_relaxed(&watch->page) - 1);
    compare_exchange(&watch->fault, &none, mark); /* edge F: before the zeros */
    void *put = mmap((void *)page, load_acquire(&watch->end) - page,
                     (int)load_relaxed(&watch->protection),
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    none = 0;
    compare_exchange(&watch->fault, &none, mark);
    return put != MAP_FAILED;
}

/* Raised in this process by a handler over ours, as faulthandler does when it has printed its
 * stacks: the fault comes again, with its address, if it was one.  Not twice without a fault. */
static bool is_echo(const siginfo_t *info)
{
    if (info->si_code > 0 || info->si_pid != getpid())
        return false;
    uint32_t thread = (uint32_t)syscall(SYS_gettid);
    return exchange(&echo, thread) != thread;
}

static void end_by_default(bool comes_again)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(SIGBUS, &action, NULL);
    if (!comes_again)
        raise(SIGBUS);
}

static void pass_on(const struct sigaction *below, int number, siginfo_t *info, void *context)
{
    bool comes_again = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
    if (below->sa_handler == SIG_DFL || (below->sa_handler == SIG_IGN && comes_again))
        end_by_default(comes_again);
    else if (below->sa_handler == SIG_IGN)
        return;
    else if (below->sa_flags & SA_SIGINFO)
        below->sa_sigaction(number, info, context);
    else
        below->sa_handler(number);
}

static void handle(uint32_t level, int number, siginfo_t *info, void *context)
{
    int saved = errno;
    bool done = false;
    if (info->si_code > 0)
        store_relaxed(&echo, 0);
    if (load_relaxed(&wanted)) {
        /* Other memory does not help who cannot access an address for its alignment. */
        bool is_lost = info->si_code > 0 && info->si_code != BUS_ADRALN;
        done = is_lost ? put_memory_under((uintptr_t)info->si_addr) : is_echo(info);
    }
    if (!done)
        pass_on(&previous[level], number, info, context);
    errno = saved;
}

/* A handler for each level: one that came on top between two of ours calls the lower of them, or
 * puts it back, and must not be called from there again. */
#define AT_LEVEL(n)                                                                            \
    static void on_bus_error_##n(int number, siginfo_t *info, void *context)                   \
    {                                                                                          \
        handle(n, number, info, context);                                                      \
    }
AT_LEVEL(0)
AT_LEVEL(1)
AT_LEVEL(2)
AT_LEVEL(3)
AT_LEVEL(4)
AT_LEVEL(5)
AT_LEVEL(6)
AT_LEVEL(7)

static void (*const handlers[LEVELS])(int, siginfo_t *, void *) = {
    on_bus_error_0, on_bus_error_1, on_bus_error_2, on_bus_error_3,
    on_bus_error_4, on_bus_error_5, on_bus_error_6, on_bus_error_7};

/* -1: it is not ours */
static int level_of(const struct sigaction *action)
{
    for (int level = 0; level < LEVELS; level++)
        if ((action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handlers[level])
            return level;
    return -1;
}

bool shm_guard_is_on_top(void)
{
    struct sigaction now;
    return sigaction(SIGBUS, NULL, &now) == 0 && level_of(&now) >= 0;
}

/* When the levels are used up, the oldest comes on top again and leaves out those in between. */
static int put_on_top(const struct sigaction *now)
{
    struct sigaction ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    uint32_t level = depth < LEVELS ? depth : 0;
    if (depth < LEVELS)
        previous[level] = *now;
    ours.sa_sigaction = handlers[level];
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, &ours, NULL) != 0)
        return -1;
    depth = level + 1;
    return 0;
}

static void be_unguarded_in_child(void) { store_relaxed(&shm_guarded, 0); }

int shm_guard_faults(void)
{
    static bool forks_are_watched;
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return -1;
    int level = level_of(&now);
    if (level >= 0)
        depth = (uint32_t)level + 1; /* who lay over it has gone */
    else if (put_on_top(&now) != 0)
        return -1;
    store_relaxed(&wanted, 1);
    if (!forks_are_watched && pthread_atfork(NULL, NULL, be_unguarded_in_child) == 0)
        forks_are_watched = true;
    store_relaxed(&shm_guarded, forks_are_watched);
    return 0;
}

void shm_unguard_faults(void)
{
    struct sigaction now;
    store_relaxed(&shm_guarded, 0);
    store_relaxed(&wanted, 0);
    int level = sigaction(SIGBUS, NULL, &now) == 0 ? level_of(&now) : -1;
    if (level >= 0 && sigaction(SIGBUS, &previous[level], NULL) == 0)
        depth = (uint32_t)level;
}
