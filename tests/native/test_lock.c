/* Two never hold the lock, and who dies with it is inherited from. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "lock.h"
#include "support.h"

#define THREADS 4
#define ROUNDS 20000

static struct shm_segment segment;
static const struct shm_place futex = {0};
static uint64_t counter; /* plain: the lock is what orders it */

static struct shm_lock *the_lock(void) { return (struct shm_lock *)shm_body(&segment); }

static void take(struct shm_segment *mine, struct shm_patience *patience)
{
    struct shm_wait wait;
    uint32_t claim = shm_me(mine);
    shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
    while (shm_lock_try(mine, the_lock(), claim) == SHM_LOCKED) {
        CHECK(shm_lock_wait(mine, the_lock(), &futex, patience, &wait) == SHM_OK);
        claim |= SHM_SLEEPERS;
    }
}

static void *count(void *spin)
{
    struct shm_segment mine;
    struct shm_patience patience;
    bool last;
    join_beside(&mine, &segment);
    shm_patience_init(&patience, *(uint32_t *)spin);
    for (int i = 0; i < ROUNDS; i++) {
        take(&mine, &patience);
        counter++;
        shm_lock_release(the_lock(), &futex);
    }
    shm_leave(&mine, NULL, &last);
    return NULL;
}

static void excludes(uint32_t spin)
{
    pthread_t threads[THREADS];
    counter = 0;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, count, &spin) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(counter == (uint64_t)THREADS * ROUNDS);
    CHECK(load_relaxed(&the_lock()->word) == 0);
}

/* A child takes the lock and is killed; the poller gets it at his first try. */
static void is_inherited_from_the_dead(void)
{
    int pid = fork();
    if (pid == 0) {
        if (shm_join(&segment, false) != SHM_OK)
            _exit(1);
        _exit(shm_lock_try(&segment, the_lock(), shm_me(&segment)) == SHM_OK ? 0 : 1);
    }
    CHECK(wait_for(pid) == 0);
    CHECK(shm_lock_try(&segment, the_lock(), shm_me(&segment)) == SHM_INHERITED);
    CHECK(shm_lock_try(&segment, the_lock(), shm_me(&segment)) == SHM_LOCKED);
    CHECK(shm_lock_release(the_lock(), &futex) == SHM_OK);
    CHECK(shm_lock_release(the_lock(), &futex) == SHM_NOT_HELD);
}

/* The identity of a slot that was used again is dead, although the slot is held. */
static void is_inherited_from_an_old_generation(void)
{
    uint32_t old = shm_me(&segment) + (1u << SHM_SLOT_BITS);
    store_relaxed(&the_lock()->word, old | SHM_SLEEPERS);
    CHECK(shm_lock_try(&segment, the_lock(), shm_me(&segment)) == SHM_INHERITED);
    CHECK(load_relaxed(&the_lock()->word) == (shm_me(&segment) | SHM_SLEEPERS));
    shm_lock_release(the_lock(), &futex);
}

/* Whoever polls while another is about to sleep for a dead owner's lock: the other's bit is no
 * reason to fail. */
static atomic_uint turn;

static void *announces_himself(void *unused)
{
    struct shm_segment mine;
    struct shm_patience patience;
    struct shm_wait wait;
    bool last;
    (void)unused;
    join_beside(&mine, &segment);
    shm_patience_init(&patience, 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        while (atomic_load(&turn) != 2 * i - 1)
            cpu_relax();
        shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
        shm_lock_wait(&mine, the_lock(), &futex, &patience, &wait);
        atomic_store(&turn, 2 * i);
    }
    shm_leave(&mine, NULL, &last);
    return NULL;
}

static void is_inherited_beside_a_sleeper(void)
{
    uint32_t dead = 1u << SHM_SLOT_BITS | (segment.facts.slot_count - 1);
    pthread_t thread;
    store_relaxed(&segment.slots[shm_slot_of(dead)].identity, dead);
    CHECK(pthread_create(&thread, NULL, announces_himself, NULL) == 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        store_relaxed(&the_lock()->word, dead);
        atomic_store(&turn, 2 * i - 1);
        CHECK(shm_lock_try(&segment, the_lock(), shm_me(&segment)) == SHM_INHERITED);
        shm_lock_release(the_lock(), &futex);
        while (atomic_load(&turn) != 2 * i)
            cpu_relax();
    }
    pthread_join(thread, NULL);
}

static void a_sleeper_finds_the_death(void)
{
    struct shm_patience patience;
    shm_patience_init(&patience, 0);
    int ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    int pid = fork();
    if (pid == 0) {
        shm_join(&segment, false);
        shm_lock_try(&segment, the_lock(), shm_me(&segment));
        CHECK(write(ready[1], "x", 1) == 1);
        usleep(50000);
        kill(getpid(), SIGKILL);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    take(&segment, &patience);
    shm_lock_release(the_lock(), &futex);
    CHECK(wait_for(pid) == -1);
}

int main(void)
{
    make_segment(&segment, sizeof(struct shm_lock), 0);
    excludes(0);
    excludes(SHM_SPIN_MOST);
    is_inherited_from_the_dead();
    is_inherited_from_an_old_generation();
    is_inherited_beside_a_sleeper();
    a_sleeper_finds_the_death();
    return 0;
}
