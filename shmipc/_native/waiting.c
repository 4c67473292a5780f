#define _GNU_SOURCE
#include "waiting.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull

#define LOOKS_PER_CLOCK 16

/* Tokens that a semaphore may hold unclaimed.  Posting one costs no system call while nobody
 * sleeps; that many unclaimed ones say that nobody does. */
#define TOKENS_MAX 64

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t shm_now(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t shm_now_coarse(void) { return read_clock(CLOCK_MONOTONIC_COARSE); }
uint64_t shm_wall_clock(void) { return read_clock(CLOCK_REALTIME); }

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* On one processor the one we wait for cannot run while we spin. */
static bool alone_on_cpu(void)
{
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) == 1;
}

int shm_place_open(struct shm_place *place, const char *name)
{
    sem_t *semaphore = sem_open(name, 0);
    if (semaphore == SEM_FAILED)
        return SHM_E_OS;
    place->semaphore = semaphore;
    return SHM_OK;
}

void shm_place_close(struct shm_place *place)
{
    if (place->semaphore)
        sem_close(place->semaphore);
    place->semaphore = NULL;
}

void shm_patience_init(struct shm_patience *patience, uint32_t spin)
{
    *patience = (struct shm_patience){
        .spin = spin == SHM_SPIN_ADAPTIVE && alone_on_cpu() ? 0 : spin,
        .adaptive = SHM_SPIN_MOST,
        .seed = (uint32_t)shm_now() | 1,
    };
}

void shm_wait_init(struct shm_wait *wait, uint64_t deadline, uint64_t interval)
{
    *wait = (struct shm_wait){.deadline = deadline, .interval = interval};
}

uint32_t shm_spin_budget(const struct shm_patience *patience)
{
    return patience->spin == SHM_SPIN_ADAPTIVE ? patience->adaptive : patience->spin;
}

void shm_spun(struct shm_patience *patience, bool in_time)
{
    uint32_t budget = patience->adaptive;
    patience->spins++;
    if (in_time)
        patience->adaptive = budget * 2 < SHM_SPIN_MOST ? budget * 2 : SHM_SPIN_MOST;
    else
        patience->adaptive = budget / 2 > SHM_SPIN_LEAST ? budget / 2 : SHM_SPIN_LEAST;
}

bool shm_keep_spinning(struct shm_spin *spin, uint32_t ns)
{
    cpu_relax();
    if (++spin->looks % LOOKS_PER_CLOCK)
        return true;
    uint64_t now = shm_now();
    if (spin->end == 0)
        spin->end = now + ns;
    return now < spin->end;
}

/* Up to a quarter less, so that many sleepers do not re-check in step. */
static uint64_t with_jitter(uint64_t interval, struct shm_patience *patience)
{
    patience->seed = patience->seed * 1664525u + 1013904223u;
    return interval - interval / 4 * (patience->seed >> 16) / 65536;
}

static int sleep_on_futex(shm_atomic32 *word, uint32_t seen, uint64_t ns)
{
    struct timespec timeout = to_timespec(ns);
    if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0) == 0 || errno == EAGAIN)
        return SHM_OK;
    return errno == EINTR ? SHM_INTERRUPTED : SHM_TIMED_OUT;
}

/* A token posted between our look at the word and the wait stays there for us, so no wake is
 * lost; one that was meant for somebody else costs us a look. */
static int sleep_on_semaphore(sem_t *semaphore, shm_atomic32 *word, uint32_t seen, uint64_t ns)
{
    if (load_acquire(word) != seen)
        return SHM_OK;
#ifdef SHMIPC_HAVE_SEM_CLOCKWAIT
    struct timespec until = to_timespec(read_clock(CLOCK_MONOTONIC) + ns);
    int failed = sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
#else
    struct timespec until = to_timespec(read_clock(CLOCK_REALTIME) + ns);
    int failed = sem_timedwait(semaphore, &until);
#endif
    if (!failed)
        return SHM_OK;
    return errno == EINTR ? SHM_INTERRUPTED : SHM_TIMED_OUT;
}

/* A short sleep means that a longer spin would have saved it. */
static void learn_from_sleep(struct shm_patience *patience, uint64_t slept)
{
    if (slept < 2 * SHM_SPIN_MOST && patience->adaptive < SHM_SPIN_MOST)
        patience->adaptive *= 2;
}

int shm_park(shm_atomic32 *word, uint32_t seen, const struct shm_place *place,
             struct shm_patience *patience, struct shm_wait *wait)
{
    uint64_t begin = shm_now();
    if (begin >= wait->deadline)
        return SHM_TIMED_OUT;
    uint64_t ns = with_jitter(wait->interval, patience);
    if (wait->deadline - begin < ns)
        ns = wait->deadline - begin;

    int status = place->semaphore ? sleep_on_semaphore(place->semaphore, word, seen, ns)
                                  : sleep_on_futex(word, seen, ns);
    patience->parks++;
    wait->parks++;
    if (status == SHM_OK)
        learn_from_sleep(patience, shm_now() - begin);
    else if (status == SHM_TIMED_OUT)
        wait->interval = 2 * wait->interval < SHM_RECHECK_MAX ? 2 * wait->interval
                                                              : SHM_RECHECK_MAX;
    return status;
}

int shm_wait_is_over(int status, const struct shm_patience *patience, const struct shm_wait *wait)
{
    if (patience->closed && *patience->closed)
        return SHM_CLOSED;
    if (status != SHM_TIMED_OUT)
        return status;
    return wait->deadline != SHM_NEVER && shm_now() >= wait->deadline ? SHM_TIMED_OUT : SHM_OK;
}

bool shm_unpark(shm_atomic32 *word, uint32_t count, const struct shm_place *place)
{
    if (!place->semaphore)
        return syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0) > 0;
    int tokens = 0;
    sem_getvalue(place->semaphore, &tokens);
    if (tokens >= TOKENS_MAX)
        return false;
    for (uint32_t i = 0; i < count && (uint32_t)tokens + i < TOKENS_MAX; i++)
        sem_post(place->semaphore);
    return true;
}
