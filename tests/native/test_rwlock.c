/* A writer is alone, readers are not; nobody starves; the dead let go, and what they wrote half is
 * told to one. */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "rwlock.h"
#include "support.h"

#define THREADS 6
#define ROUNDS 4000
#define SPUN 500 /* rounds; who spins keeps a processor from the others */
#define SLOTS 32

static struct shm_segment segment;
static const struct shm_place futex = {0};
static uint32_t spin;

static struct shm_rwlock *rwlock(void) { return (struct shm_rwlock *)shm_body(&segment); }

static void renew(uint32_t flags)
{
    memset(rwlock(), 0, shm_rwlock_size(SLOTS));
    rwlock()->writer.flags = flags;
}

static bool is_in(int status) { return status == SHM_OK || status == SHM_INHERITED; }

/* Whether it was only that a dead writer's lock has to be recovered: the words are then mended. */
static volatile uint64_t *words(void) { return (volatile uint64_t *)shm_data(&segment); }

static bool is_mended(struct shm_segment *mine, struct shm_patience *patience,
                      struct shm_wait *wait, int status)
{
    if (status != SHM_OWNER_DIED)
        return false;
    if (shm_rwlock_recover(mine, rwlock()) != SHM_OK)
        return true; /* by another */
    while (!shm_rwlock_is_alone(mine, rwlock()))
        CHECK(shm_rwlock_wait_alone(mine, rwlock(), patience, wait) == SHM_OK);
    words()[1] = words()[0];
    CHECK(shm_rwlock_release_write(mine, rwlock()) == SHM_OK);
    return true;
}

static int read_lock(struct shm_segment *mine, struct shm_patience *patience, uint64_t interval)
{
    struct shm_wait wait;
    struct shm_queued queued;
    int status;
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (!is_in(status = shm_rwlock_try_read(mine, rwlock()))) {
        if (is_mended(mine, patience, &wait, status))
            continue;
        CHECK(status == SHM_NOT_NOW);
        shm_rwlock_queue(mine, rwlock(), &queued);
        CHECK(shm_rwlock_wait_read(mine, &queued, patience, &wait) == SHM_OK);
        CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
        if (shm_rwlock_unqueue(&queued))
            return SHM_OK;
    }
    return status;
}

static void read_unlock(struct shm_segment *mine)
{
    CHECK(shm_rwlock_release_read(mine, rwlock()) == SHM_OK);
}

static int write_lock(struct shm_segment *mine, struct shm_patience *patience, uint64_t interval)
{
    struct shm_wait wait;
    uint32_t claim = shm_me(mine);
    int status;
    shm_wait_init(&wait, SHM_NEVER, interval);
    while (!is_in(status = shm_rwlock_try_write(mine, rwlock(), claim))) {
        if (is_mended(mine, patience, &wait, status))
            continue;
        CHECK(status == SHM_LOCKED);
        CHECK(shm_lock_wait(mine, &rwlock()->writer, &futex, patience, &wait) == SHM_OK);
        claim |= SHM_SLEEPERS;
    }
    while (!shm_rwlock_is_alone(mine, rwlock()))
        CHECK(shm_rwlock_wait_alone(mine, rwlock(), patience, &wait) == SHM_OK);
    CHECK(interval != WITHOUT_RECHECK || wait.interval == interval);
    shm_rwlock_begin_write(rwlock());
    return status;
}

static void write_unlock(struct shm_segment *mine)
{
    CHECK(shm_rwlock_release_write(mine, rwlock()) == SHM_OK);
}

/* A thread that plays a participant; the first two play the same one. */
static void begin(struct shm_segment *own, struct shm_segment **mine, void *number)
{
    *mine = (intptr_t)number < 2 ? &segment : own;
    if (*mine == own)
        join_beside(own, &segment);
}

static void end(struct shm_segment *mine)
{
    bool last;
    if (mine != &segment)
        shm_leave(mine, NULL, &last);
}

static void is_left_clean(void)
{
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 0);
    CHECK(load_relaxed(&rwlock()->writer.word) == 0);
    CHECK(shm_rwlock_try_write(&segment, rwlock(), shm_me(&segment)) == SHM_OK);
    CHECK(shm_rwlock_is_alone(&segment, rwlock()));
    write_unlock(&segment);
    struct shm_readers *mine = (struct shm_readers *)(rwlock() + 1) + shm_slot_of(shm_me(&segment));
    CHECK((uint32_t)load_relaxed(&mine->word) == 0); /* nobody in, nobody waiting */
}

/* --- under load --- */

static uint64_t left, right; /* plain, and always equal for who reads */
static shm_atomic32 readers, writers;

static void look(void)
{
    fetch_add(&readers, 1);
    sched_yield();
    CHECK(load_relaxed(&writers) == 0);
    CHECK(left == right);
    fetch_sub(&readers, 1);
}

static void change(void)
{
    CHECK(fetch_add(&writers, 1) == 0 && load_relaxed(&readers) == 0);
    left++;
    right++;
    fetch_sub(&writers, 1);
}

static void *read_and_write(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    for (int i = 0; i < (spin ? SPUN : ROUNDS); i++) {
        if ((i + (intptr_t)number) % 4) {
            CHECK(read_lock(mine, &patience, WITHOUT_RECHECK) == SHM_OK);
            look();
            read_unlock(mine);
        } else {
            CHECK(write_lock(mine, &patience, WITHOUT_RECHECK) == SHM_OK);
            change();
            write_unlock(mine);
        }
    }
    end(mine);
    return NULL;
}

static void a_writer_is_alone(uint32_t ns)
{
    spin = ns;
    renew(0);
    left = right = 0;
    run_threads(THREADS, read_and_write);
    CHECK(left == (uint64_t)THREADS * (spin ? SPUN : ROUNDS) / 4);
    is_left_clean();
}

/* Somebody reads at every moment: each goes only when another has come.  The writer gets in all the same,
 * by which he keeps them from coming, so they do not wait for each other while he is there. */
static shm_atomic32 done;

static void read_without_a_gap(struct shm_segment *mine, struct shm_patience *patience)
{
    CHECK(read_lock(mine, patience, WITHOUT_RECHECK) == SHM_OK);
    fetch_add(&readers, 1);
    while (load_relaxed(&readers) < 2 && !load_relaxed(&done) &&
           load_acquire(&rwlock()->writer.word) == 0)
        sched_yield();
    fetch_sub(&readers, 1);
    read_unlock(mine);
}

static void *write_among_readers(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    while (number && !load_relaxed(&done))
        read_without_a_gap(mine, &patience);
    for (int i = 0; !number && i < SPUN; i++) {
        CHECK(write_lock(mine, &patience, WITHOUT_RECHECK) == SHM_OK);
        CHECK(load_relaxed(&readers) == 0);
        write_unlock(mine);
    }
    store_relaxed(&done, 1);
    end(mine);
    return NULL;
}

static void writers_are_not_starved(uint32_t ns)
{
    spin = ns;
    renew(0);
    store_relaxed(&done, 0);
    run_threads(4, write_among_readers);
    is_left_clean();
}

static void *read_among_writers(void *number)
{
    struct shm_segment own, *mine;
    struct shm_patience patience;
    shm_patience_init(&patience, spin);
    begin(&own, &mine, number);
    while (number && !load_relaxed(&done)) {
        write_lock(mine, &patience, WITHOUT_RECHECK);
        write_unlock(mine);
    }
    for (int i = 0; !number && i < SPUN; i++) {
        read_lock(mine, &patience, WITHOUT_RECHECK);
        read_unlock(mine);
    }
    store_relaxed(&done, 1);
    end(mine);
    return NULL;
}

static void readers_are_not_starved(uint32_t ns)
{
    spin = ns;
    renew(0);
    store_relaxed(&done, 0);
    run_threads(4, read_among_writers);
    is_left_clean();
}

/* Two threads of a participant that has never used it come at once. */
static struct shm_segment newcomer;
static pthread_barrier_t both;

static void *come_first(void *number)
{
    pthread_barrier_wait(&both);
    CHECK(shm_rwlock_try_read(&newcomer, rwlock()) == SHM_OK);
    return number;
}

static void two_threads_come_first(void)
{
    bool last;
    renew(0);
    CHECK(pthread_barrier_init(&both, NULL, 2) == 0);
    for (int i = 0; i < 500; i++) {
        join_beside(&newcomer, &segment);
        run_threads(2, come_first);
        CHECK(shm_rwlock_readers(&segment, rwlock()) == 2);
        read_unlock(&newcomer);
        read_unlock(&newcomer);
        CHECK(shm_rwlock_release_read(&newcomer, rwlock()) == SHM_NOT_HELD);
        shm_leave(&newcomer, NULL, &last);
    }
    pthread_barrier_destroy(&both);
    is_left_clean();
}

/* --- step by step --- */

static int try_read(void) { return shm_rwlock_try_read(&segment, rwlock()); }
static int try_write(void) { return shm_rwlock_try_write(&segment, rwlock(), shm_me(&segment)); }

static void who_waits_for_a_writer_comes_in_before_the_next(void)
{
    struct shm_segment next;
    struct shm_queued first, second, third;
    bool last;
    renew(0);
    join_beside(&next, &segment);
    CHECK(try_write() == SHM_OK && shm_rwlock_is_alone(&segment, rwlock()));
    CHECK(shm_rwlock_try_read(&next, rwlock()) == SHM_NOT_NOW && try_read() == SHM_NOT_NOW);
    shm_rwlock_queue(&next, rwlock(), &first);
    shm_rwlock_queue(&next, rwlock(), &second);
    shm_rwlock_queue(&next, rwlock(), &third);
    CHECK(!shm_rwlock_unqueue(&third));
    write_unlock(&segment);
    CHECK(try_write() == SHM_OK);
    CHECK(!shm_rwlock_is_alone(&segment, rwlock()));
    CHECK(shm_rwlock_unqueue(&first) && shm_rwlock_unqueue(&second));
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 2);
    CHECK(shm_rwlock_try_read(&next, rwlock()) == SHM_NOT_NOW); /* from now on the writer */
    read_unlock(&next);
    CHECK(!shm_rwlock_is_alone(&segment, rwlock()));
    read_unlock(&next);
    CHECK(shm_rwlock_is_alone(&segment, rwlock()));
    write_unlock(&segment);
    shm_leave(&next, NULL, &last);
    is_left_clean();
}

static void what_is_not_held_is_not_released(void)
{
    struct shm_segment other;
    bool last;
    renew(0);
    join_beside(&other, &segment);
    CHECK(shm_rwlock_release_read(&segment, rwlock()) == SHM_NOT_HELD);
    CHECK(shm_rwlock_release_write(&segment, rwlock()) == SHM_NOT_HELD);
    CHECK(try_read() == SHM_OK);
    CHECK(shm_rwlock_release_read(&other, rwlock()) == SHM_NOT_HELD);
    CHECK(shm_rwlock_release_write(&segment, rwlock()) == SHM_NOT_HELD);
    read_unlock(&segment);
    CHECK(try_write() == SHM_OK);
    CHECK(shm_rwlock_release_write(&other, rwlock()) == SHM_NOT_HELD);
    CHECK(shm_rwlock_try_write(&other, rwlock(), shm_me(&other)) == SHM_LOCKED);
    write_unlock(&segment);
    shm_leave(&other, NULL, &last);
    is_left_clean();
}

/* One process reads as often as can be counted: one more is refused, nobody else minds. */
static void there_is_room_for_so_many_readers(void)
{
    struct shm_segment other;
    struct shm_queued queued;
    uint32_t most = 0;
    bool last;
    renew(0);
    join_beside(&other, &segment);
    while (try_read() == SHM_OK)
        most++;
    CHECK(most == 0xFFFF && try_read() == SHM_NO_PLACE);
    CHECK(shm_rwlock_try_read(&other, rwlock()) == SHM_OK);
    CHECK(shm_rwlock_readers(&segment, rwlock()) == most + 1);
    read_unlock(&other);
    shm_rwlock_queue(&segment, rwlock(), &queued);
    CHECK(shm_rwlock_try_write(&other, rwlock(), shm_me(&other)) == SHM_OK);
    CHECK(!shm_rwlock_is_alone(&other, rwlock()));
    write_unlock(&other);
    CHECK(!shm_rwlock_unqueue(&queued));
    for (; most; most--)
        read_unlock(&segment);
    CHECK(shm_rwlock_release_read(&segment, rwlock()) == SHM_NOT_HELD);
    shm_leave(&other, NULL, &last);
    is_left_clean();
}

/* --- deaths --- */

static void read_twice(void)
{
    CHECK(try_read() == SHM_OK && try_read() == SHM_OK);
}

static void take_to_write(void) { CHECK(is_in(try_write())); }

static void write_half(void)
{
    take_to_write();
    CHECK(shm_rwlock_is_alone(&segment, rwlock()));
    shm_rwlock_begin_write(rwlock());
}

static void a_dead_reader_is_gone(void)
{
    renew(0);
    int pid = start_player(&segment, read_twice, NULL);
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 2);
    CHECK(try_write() == SHM_OK && !shm_rwlock_is_alone(&segment, rwlock()));
    kill_player(pid);
    CHECK(shm_rwlock_is_alone(&segment, rwlock()));
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 0);
    write_unlock(&segment);
}

static void the_next_in_the_slot_does_not_read(void)
{
    struct shm_segment next;
    uint32_t dead;
    bool last;
    renew(0);
    kill_player(start_player(&segment, read_twice, &dead));
    join_in_slot_of(&next, &segment, dead);
    CHECK(try_write() == SHM_OK && shm_rwlock_is_alone(&segment, rwlock()));
    CHECK(shm_rwlock_release_read(&next, rwlock()) == SHM_NOT_HELD);
    write_unlock(&segment);
    CHECK(shm_rwlock_try_read(&next, rwlock()) == SHM_OK);
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 1);
    read_unlock(&next);
    shm_leave(&next, NULL, &last);
    is_left_clean();
}

static void who_leaves_in_good_order_does_not_read(void)
{
    struct shm_segment other;
    bool last;
    renew(0);
    join_beside(&other, &segment);
    CHECK(shm_rwlock_try_read(&other, rwlock()) == SHM_OK);
    shm_leave(&other, NULL, &last);
    CHECK(try_write() == SHM_OK && shm_rwlock_is_alone(&segment, rwlock()));
    write_unlock(&segment);
}

/* A process leaves the segment while a thread of it is here: it is nobody, and not slot 0. */
static void who_has_left_releases_nothing(void)
{
    struct shm_segment other;
    struct shm_queued queued;
    bool last;
    renew(0);
    CHECK(shm_slot_of(shm_me(&segment)) == 0);
    join_beside(&other, &segment);
    CHECK(try_write() == SHM_OK);
    shm_rwlock_queue(&other, rwlock(), &queued);
    shm_leave(&other, NULL, &last);
    write_unlock(&segment);
    CHECK(shm_rwlock_unqueue(&queued) && shm_rwlock_readers(&segment, rwlock()) == 0);
    CHECK(try_read() == SHM_OK);
    CHECK(shm_rwlock_release_read(&other, rwlock()) == SHM_NOT_HELD);
    CHECK(shm_rwlock_release_write(&other, rwlock()) == SHM_NOT_HELD);
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 1);
    read_unlock(&segment);
    CHECK(shm_rwlock_release_write(&segment, rwlock()) == SHM_NOT_HELD);
    is_left_clean();
}

static void a_dead_writer_lets_go(void)
{
    renew(0);
    int pid = start_player(&segment, take_to_write, NULL);
    CHECK(try_read() == SHM_NOT_NOW && try_write() == SHM_LOCKED);
    kill_player(pid);
    CHECK(try_read() == SHM_OK); /* nothing was written, nothing is told */
    read_unlock(&segment);
    kill_player(start_player(&segment, take_to_write, NULL));
    CHECK(try_write() == SHM_OK);
    write_unlock(&segment);
    is_left_clean();
}

static void what_is_half_written_is_told_to_one(void)
{
    renew(0);
    kill_player(start_player(&segment, write_half, NULL));
    CHECK(try_write() == SHM_INHERITED);
    shm_rwlock_begin_write(rwlock());
    write_unlock(&segment);
    is_left_clean();
    kill_player(start_player(&segment, write_half, NULL));
    CHECK(try_read() == SHM_INHERITED);
    CHECK(try_read() == SHM_OK);
    read_unlock(&segment);
    read_unlock(&segment);
    is_left_clean();
}

/* Heirs that die before they release leave it to be told again; one who gives up has been told. */
static void an_heir_that_dies_has_an_heir(void)
{
    renew(0);
    kill_player(start_player(&segment, write_half, NULL));
    kill_player(start_player(&segment, take_to_write, NULL));
    kill_player(start_player(&segment, write_half, NULL));
    CHECK(try_write() == SHM_INHERITED);
    write_unlock(&segment);
    CHECK(try_read() == SHM_OK);
    read_unlock(&segment);
    is_left_clean();
}

static void where_a_death_has_to_be_recovered(void)
{
    renew(SHM_LOCK_RAISES);
    kill_player(start_player(&segment, take_to_write, NULL));
    CHECK(try_write() == SHM_OK); /* he had not written */
    write_unlock(&segment);
    kill_player(start_player(&segment, take_to_write, NULL));
    CHECK(try_read() == SHM_OK);
    read_unlock(&segment);
    CHECK(shm_rwlock_recover(&segment, rwlock()) == SHM_NOT_HELD);
    int pid = start_player(&segment, write_half, NULL);
    CHECK(shm_rwlock_recover(&segment, rwlock()) == SHM_NOT_HELD);
    kill_player(pid);
    CHECK(try_write() == SHM_OWNER_DIED && try_read() == SHM_OWNER_DIED);
    CHECK(try_write() == SHM_OWNER_DIED && try_read() == SHM_OWNER_DIED);
    CHECK(shm_rwlock_recover(&segment, rwlock()) == SHM_OK);
    CHECK(shm_rwlock_recover(&segment, rwlock()) == SHM_NOT_HELD); /* it is mine, to mend */
    CHECK(try_write() == SHM_LOCKED && try_read() == SHM_NOT_NOW);
    write_unlock(&segment);
    is_left_clean();
}

static int victim;

static void *kill_or_wait(void *number)
{
    struct shm_patience patience;
    struct shm_segment own;
    shm_patience_init(&patience, spin);
    if (!number) {
        usleep(20000);
        kill_player(victim);
        return NULL;
    }
    join_beside(&own, &segment);
    if ((intptr_t)number == 1) {
        write_lock(&own, &patience, SHM_RECHECK_MIN);
        write_unlock(&own);
    } else {
        read_lock(&own, &patience, SHM_RECHECK_MIN);
        read_unlock(&own);
    }
    end(&own);
    return NULL;
}

static void sleepers_find_the_death(uint32_t ns)
{
    spin = ns;
    renew(0);
    victim = start_player(&segment, write_half, NULL);
    run_threads(3, kill_or_wait);
    is_left_clean();
    victim = start_player(&segment, read_twice, NULL);
    run_threads(3, kill_or_wait);
    is_left_clean();
}

/* Killed anywhere: what is read is whole, because what a dead writer left half has to be mended
 * before anybody comes in; also if who mends it dies. */
static void read_pair(struct shm_patience *patience)
{
    CHECK(read_lock(&segment, patience, SHM_RECHECK_SOON) == SHM_OK);
    CHECK(words()[0] == words()[1]);
    read_unlock(&segment);
}

static void write_pair(struct shm_patience *patience)
{
    CHECK(write_lock(&segment, patience, SHM_RECHECK_SOON) == SHM_OK);
    uint64_t first = words()[0];
    CHECK(first == words()[1]);
    words()[0] = first + 1;
    sched_yield(); /* a good moment to be killed */
    words()[1] = first + 1;
    write_unlock(&segment);
}

static int start_reader_or_writer(int i)
{
    struct shm_patience patience;
    int pid = fork();
    CHECK(pid >= 0);
    if (pid)
        return pid;
    alarm(360); /* after the whole test's limit: nobody waits for who is gone */
    while (shm_join(&segment, false) == SHM_LOCKED)
        ;
    shm_patience_init(&patience, i % 2 ? SHM_SPIN_LEAST : 0);
    while (true)
        if (i++ % 3)
            write_pair(&patience);
        else
            read_pair(&patience);
}

static void killed_anywhere(void)
{
    enum { PLAYERS = 3, KILLS = 90 };
    struct shm_patience patience;
    int pids[PLAYERS];
    renew(SHM_LOCK_RAISES);
    shm_patience_init(&patience, 0);
    for (int i = 0; i < KILLS + PLAYERS; i++) {
        if (i >= PLAYERS)
            kill_player(pids[i % PLAYERS]);
        pids[i % PLAYERS] = start_reader_or_writer(i);
        usleep((unsigned)(i * 7919 % 4000));
        if (i % 5 == 0)
            write_pair(&patience);
    }
    for (int i = 0; i < PLAYERS; i++)
        kill_player(pids[i]);
    read_pair(&patience);
    write_pair(&patience);
}

static void nonsense_in_the_lines_is_nobody(void)
{
    struct shm_readers *lines = (struct shm_readers *)(rwlock() + 1);
    renew(0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        store_relaxed(&lines[i].identity, i * 0x9E3779B9u);
        store_relaxed(&lines[i].word, (i + 1) * 0x9E3779B97F4A7C15u);
    }
    store_relaxed(&rwlock()->slots_used, UINT32_MAX);
    CHECK(shm_rwlock_readers(&segment, rwlock()) == 0);
    CHECK(try_write() == SHM_OK && shm_rwlock_is_alone(&segment, rwlock()));
    write_unlock(&segment);
    CHECK(try_read() == SHM_OK && shm_rwlock_readers(&segment, rwlock()) == 1);
    read_unlock(&segment);
    shm_rwlock_wake_all(rwlock());
}

int main(void)
{
    make_segment(&segment, shm_rwlock_size(SLOTS), 64);
    who_waits_for_a_writer_comes_in_before_the_next();
    what_is_not_held_is_not_released();
    there_is_room_for_so_many_readers();
    a_dead_reader_is_gone();
    the_next_in_the_slot_does_not_read();
    who_leaves_in_good_order_does_not_read();
    who_has_left_releases_nothing();
    a_dead_writer_lets_go();
    what_is_half_written_is_told_to_one();
    an_heir_that_dies_has_an_heir();
    where_a_death_has_to_be_recovered();
    sleepers_find_the_death(0);
    sleepers_find_the_death(SHM_SPIN_MOST);
    nonsense_in_the_lines_is_nobody();
    killed_anywhere();
    two_threads_come_first();
    a_writer_is_alone(0);
    a_writer_is_alone(SHM_SPIN_MOST);
    writers_are_not_starved(0);
    writers_are_not_starved(SHM_SPIN_MOST);
    readers_are_not_starved(0);
    readers_are_not_starved(SHM_SPIN_MOST);
    return 0;
}
