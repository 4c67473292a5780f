/* Every topology at full speed.  Each message is filled with its writer's id and number, so that a
 * torn, doubled, lost or misordered one shows.  Threads play the processes (see join_beside), so
 * that the sanitizers see both ends.
 *
 * usage: stress_ring MESSAGES_PER_PRODUCER */
#include <pthread.h>

#include "support.h"

#define MOST 4
#define LONGEST 2000 /* bytes: beyond SHM_SHORT, so that claims and loans are in play */

struct run {
    struct shm_segment segment;
    uint32_t producers, consumers, messages;
    shm_atomic64 taken;
    shm_atomic32 next_seen[MOST * MOST]; /* per consumer and producer: numbers only grow */
    shm_atomic64 sum[MOST];
};

struct worker {
    struct run *run;
    uint32_t number;
    struct shm_segment segment;
    struct shm_ring ring;
};

static void start(struct worker *worker)
{
    join_beside(&worker->segment, &worker->run->segment);
    CHECK(shm_ring_open(&worker->ring, &worker->segment, 5000) == SHM_OK);
}

static uint32_t length_of_message(uint32_t number) { return 8 + number * 2654435761u % LONGEST; }

static void fill(uint8_t *bytes, uint32_t length, uint32_t writer, uint32_t number)
{
    memcpy(bytes, &writer, 4);
    memcpy(bytes + 4, &number, 4);
    memset(bytes + 8, (int)(writer * 31 + number), length - 8);
}

static int put(struct shm_ring *ring, const struct shm_message *message, bool retry)
{
    uint32_t done;
    struct shm_loan loan;
    if (!shm_ring_is_long(ring, message->length))
        return shm_ring_put(ring, message, 1, &done, retry);
    int status = shm_ring_reserve(ring, message, &loan, retry);
    if (status != SHM_OK)
        return status;
    memcpy(loan.bytes, message->bytes, message->length);
    return shm_ring_commit(ring, &loan);
}

static void *produce(void *argument)
{
    struct worker *worker = argument;
    uint8_t bytes[LONGEST + 8];
    start(worker);
    for (uint32_t i = 0; i < worker->run->messages; i++) {
        struct shm_message message = {.bytes = bytes, .length = length_of_message(i)};
        struct shm_wait wait;
        bool retry = false;
        int status;
        fill(bytes, (uint32_t)message.length, worker->number, i);
        shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
        while ((status = put(&worker->ring, &message, retry)) != SHM_OK) {
            CHECK(status == SHM_FULL || status == SHM_LOCKED);
            retry = status == SHM_LOCKED;
            status = retry ? shm_ring_wait_side(&worker->ring, true, &wait)
                           : shm_ring_wait_space(&worker->ring, message.length, false, &wait);
            CHECK(status == SHM_OK);
        }
    }
    return NULL;
}

static void verify(struct worker *worker, const struct shm_loan *loan)
{
    struct run *run = worker->run;
    uint32_t writer, number;
    memcpy(&writer, loan->bytes, 4);
    memcpy(&number, loan->bytes + 4, 4);
    CHECK(writer < run->producers && loan->length == length_of_message(number));
    for (uint32_t i = 8; i < loan->length; i++)
        CHECK(loan->bytes[i] == (uint8_t)(writer * 31 + number));
    shm_atomic32 *next = &run->next_seen[worker->number * MOST + writer];
    CHECK(number >= load_relaxed(next));
    store_relaxed(next, number + 1);
    atomic_fetch_add(&run->sum[writer], number);
    atomic_fetch_add(&run->taken, 1);
}

static void *consume(void *argument)
{
    struct worker *worker = argument;
    struct run *run = worker->run;
    uint64_t all = (uint64_t)run->producers * run->messages;
    struct shm_loan loans[8];
    uint8_t scratch[SHM_SHORT];
    uint32_t round = 0;
    struct shm_wait wait;
    bool retry = false;
    start(worker);
    shm_wait_init(&wait, SHM_NEVER, SHM_RECHECK_MIN);
    while (load_acquire(&run->taken) < all) {
        uint32_t count;
        uint32_t most = 1 + round++ % 8;
        int status = shm_ring_take(&worker->ring, loans, most, &count, scratch, retry);
        if (status == SHM_OK) {
            for (uint32_t i = 0; i < count; i++)
                verify(worker, &loans[i]);
            shm_ring_finish(&worker->ring, loans, count);
            continue;
        }
        CHECK(status == SHM_EMPTY || status == SHM_LOCKED);
        retry = status == SHM_LOCKED;
        wait.deadline = shm_now() + 100000000;
        if (retry)
            shm_ring_wait_side(&worker->ring, false, &wait);
        else
            shm_ring_wait_messages(&worker->ring, &wait);
    }
    return NULL;
}

static void stress(uint32_t producers, uint32_t consumers, uint32_t messages)
{
    static struct run run;
    static struct worker workers[2 * MOST];
    pthread_t threads[2 * MOST];
    uint32_t flags = (producers == 1 ? SHM_ONE_PRODUCER : 0u) |
                     (consumers == 1 ? SHM_ONE_CONSUMER : 0u);
    memset(&run, 0, sizeof run);
    run.producers = producers, run.consumers = consumers, run.messages = messages;
    make_ring(&run.segment, 0, flags);
    for (uint32_t i = 0; i < producers + consumers; i++) {
        bool producing = i < producers;
        workers[i].run = &run;
        workers[i].number = producing ? i : i - producers;
        CHECK(!pthread_create(&threads[i], NULL, producing ? produce : consume, &workers[i]));
    }
    for (uint32_t i = 0; i < producers + consumers; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < producers; i++)
        CHECK(load_relaxed(&run.sum[i]) == (uint64_t)messages * (messages - 1) / 2);
    printf("%u producers, %u consumers: %u messages each\n", producers, consumers, messages);
}

int main(int argc, char **argv)
{
    uint32_t messages = argc > 1 ? (uint32_t)atoi(argv[1]) : 20000;
    for (uint32_t producers = 1; producers <= MOST; producers *= 2)
        for (uint32_t consumers = 1; consumers <= MOST; consumers *= 2)
            stress(producers, consumers, messages);
    return 0;
}
