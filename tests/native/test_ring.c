/* The record states one by one, and what each kind of death leaves. */
#include <unistd.h>

#include "support.h"

static struct shm_segment segment;
static struct shm_ring ring;

static void open_ring(uint64_t max_items, uint32_t flags)
{
    make_ring(&segment, max_items, flags);
    CHECK(shm_ring_open(&ring, &segment, 0) == SHM_OK);
}

static struct shm_message message_of(const char *text)
{
    return (struct shm_message){.bytes = text, .length = strlen(text)};
}

static int put(const char *text)
{
    uint32_t done;
    struct shm_message message = message_of(text);
    return shm_ring_put(&ring, &message, 1, &done, false);
}

/* Lends, however short it is. */
static int take(struct shm_loan *loan)
{
    uint32_t count;
    return shm_ring_take(&ring, loan, 1, &count, NULL, false);
}

static void expect(const char *text)
{
    struct shm_loan loan;
    uint8_t scratch[SHM_SHORT];
    uint32_t count;
    CHECK(shm_ring_take(&ring, &loan, 1, &count, scratch, false) == SHM_OK && count == 1);
    CHECK(loan.length == strlen(text) && memcmp(loan.bytes, text, loan.length) == 0);
    shm_ring_finish(&ring, &loan, 1);
}

/* Runs `work` as another process that dies right after it. */
static void in_a_dying_process(void (*work)(void))
{
    int pid = fork();
    if (pid == 0) {
        CHECK(shm_join(&segment, false) == SHM_OK);
        work();
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
}

static void messages_keep_their_order_and_wrap(uint32_t flags)
{
    char text[300];
    open_ring(0, flags);
    for (int lap = 0; lap < 2000; lap++) {
        for (int i = 0; i < 3; i++) {
            snprintf(text, sizeof text, "%d %d %*d", lap, i, (lap * 7 + i) % 250, i);
            CHECK(put(text) == SHM_OK);
        }
        CHECK(shm_ring_depth(&ring) == 3);
        for (int i = 0; i < 3; i++) {
            snprintf(text, sizeof text, "%d %d %*d", lap, i, (lap * 7 + i) % 250, i);
            expect(text);
        }
    }
    struct shm_loan loan;
    CHECK(take(&loan) == SHM_EMPTY);
}

static void a_full_ring_says_so_and_goes_on(uint32_t flags)
{
    char block[400];
    int fitted = 0;
    open_ring(0, flags);
    memset(block, 'x', sizeof block - 1);
    block[sizeof block - 1] = '\0';
    while (put(block) == SHM_OK)
        fitted++;
    CHECK(fitted == (int)(SHM_GRANULE / shm_record_size(sizeof block - 1)));
    for (int i = 0; i < 1000; i++) {
        CHECK(put(block) == SHM_FULL);
        expect(block);
        CHECK(put(block) == SHM_OK);
    }
}

static void items_are_bounded(void)
{
    open_ring(2, 0);
    CHECK(put("a") == SHM_OK && put("b") == SHM_OK && put("c") == SHM_FULL_ITEMS);
    expect("a");
    CHECK(shm_ring_await(&ring, false) == SHM_OK); /* one waits beside the one in the ring */
    CHECK(shm_ring_depth(&ring) == 2);
    CHECK(put("c") == SHM_FULL_ITEMS);
    shm_ring_unwait(&ring, 1);
    CHECK(put("c") == SHM_OK);
}

static void reserve_and_die(void)
{
    struct shm_message message = message_of("never seen");
    struct shm_loan loan;
    CHECK(shm_ring_reserve(&ring, &message, &loan, false) == SHM_OK);
}

static void wait_and_die(void) { CHECK(shm_ring_await(&ring, false) == SHM_OK); }

static void borrow_and_die(void)
{
    struct shm_loan loan;
    CHECK(take(&loan) == SHM_OK);
}

static void lock_both_sides_and_die(void)
{
    shm_lock_try(&segment, &ring.control->producers.lock, shm_me(&segment));
    shm_lock_try(&segment, &ring.control->consumers.lock, shm_me(&segment));
}

static void an_unfinished_put_is_skipped(uint32_t flags)
{
    open_ring(0, flags & ~(uint32_t)SHM_ONE_PRODUCER);
    CHECK(put("before") == SHM_OK);
    in_a_dying_process(reserve_and_die);
    CHECK(put("after") == SHM_OK);
    expect("before");
    expect("after");
    CHECK(shm_ring_depth(&ring) == 0);
}

static void an_abandoned_record_alone_is_empty(void)
{
    struct shm_loan loan;
    open_ring(0, 0);
    in_a_dying_process(reserve_and_die);
    CHECK(take(&loan) == SHM_EMPTY);
    CHECK(shm_ring_depth(&ring) == 0);
}

static void what_the_dead_borrowed_comes_again(void)
{
    struct shm_loan loan;
    open_ring(0, 0);
    CHECK(put("a") == SHM_OK && put("b") == SHM_OK);
    in_a_dying_process(borrow_and_die);
    expect("b"); /* what stands at the head goes first */
    CHECK(take(&loan) == SHM_OK);
    CHECK(loan.deliveries == 1 && memcmp(loan.bytes, "a", 1) == 0);
    shm_ring_finish(&ring, &loan, 1);
    CHECK(take(&loan) == SHM_EMPTY);
}

static void loans_come_back_in_any_order(void)
{
    struct shm_loan loans[3];
    open_ring(0, 0);
    CHECK(put("a") == SHM_OK && put("b") == SHM_OK && put("c") == SHM_OK);
    for (int i = 0; i < 3; i++)
        CHECK(take(&loans[i]) == SHM_OK);
    shm_ring_finish(&ring, &loans[1], 1);
    CHECK(memcmp(loans[0].bytes, "a", 1) == 0);
    char filler[500];
    memset(filler, 'y', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    while (put(filler) == SHM_OK)
        ;
    CHECK(memcmp(loans[0].bytes, "a", 1) == 0 && memcmp(loans[2].bytes, "c", 1) == 0);
    shm_ring_finish(&ring, &loans[2], 1);
    shm_ring_finish(&ring, &loans[0], 1);
    expect(filler);
}

static void a_loan_given_back_unread_is_not_lost(void)
{
    struct shm_loan loan;
    open_ring(0, 0);
    CHECK(put("a") == SHM_OK);
    CHECK(take(&loan) == SHM_OK);
    shm_ring_give_back(&ring, &loan, 1);
    expect("a");
}

static void dead_holders_of_the_sides_hinder_nobody(void)
{
    open_ring(0, 0);
    CHECK(put("a") == SHM_OK);
    in_a_dying_process(lock_both_sides_and_die);
    CHECK(put("b") == SHM_OK);
    expect("a");
    expect("b");
}

static void what_waited_in_the_dead_is_not_counted(void)
{
    open_ring(1, 0);
    in_a_dying_process(wait_and_die);
    CHECK(shm_ring_depth(&ring) == 0);
    CHECK(put("a") == SHM_OK);
}

static void one_side_is_one_process(void)
{
    struct shm_segment other;
    struct shm_ring second;
    struct shm_message message = message_of("x");
    uint32_t done;
    open_ring(0, SHM_ONE_PRODUCER | SHM_ONE_CONSUMER);
    join_beside(&other, &segment);
    CHECK(shm_ring_open(&second, &other, 0) == SHM_OK);
    CHECK(put("a") == SHM_OK);
    CHECK(shm_ring_put(&second, &message, 1, &done, false) == SHM_BUSY);
    shm_ring_release_sides(&ring, true, false);
    CHECK(shm_ring_put(&second, &message, 1, &done, false) == SHM_OK);
    CHECK(put("b") == SHM_BUSY);
    expect("a");
    expect("x");
}

static void tasks_of_the_dead_are_done(void)
{
    struct shm_loan loan;
    open_ring(0, SHM_COUNT_TASKS);
    CHECK(shm_ring_task_done(&ring) == SHM_NOT_HELD);
    CHECK(put("a") == SHM_OK && put("b") == SHM_OK);
    CHECK(shm_ring_unfinished(&ring) == 2);
    CHECK(take(&loan) == SHM_OK);
    shm_ring_finish(&ring, &loan, 1);
    CHECK(shm_ring_unfinished(&ring) == 2);
    CHECK(shm_ring_task_done(&ring) == SHM_OK);
    in_a_dying_process(borrow_and_die);
    CHECK(shm_ring_unfinished(&ring) == 1); /* its get was not over: it is taken again */
    expect("b");
    CHECK(shm_ring_task_done(&ring) == SHM_OK);
    CHECK(shm_ring_unfinished(&ring) == 0);
}

static void shutdown_drains(void)
{
    struct shm_loan loan;
    open_ring(0, 0);
    CHECK(put("a") == SHM_OK);
    CHECK(shm_ring_shut_down(&ring, SHM_DRAINING, false) == SHM_OK);
    CHECK(put("b") == SHM_SHUT_DOWN);
    expect("a");
    CHECK(take(&loan) == SHM_SHUT_DOWN);
}

static void impossible_words_are_corrupt(void)
{
    struct shm_loan loan;
    open_ring(0, 0);
    CHECK(put("a") == SHM_OK);
    struct shm_record *record = (struct shm_record *)shm_data(&segment);
    uint64_t shape = load_relaxed(&record->shape);
    store_relaxed(&record->shape, shape | 0xFFFFFFFF);
    CHECK(take(&loan) == SHM_CORRUPT);
    store_relaxed(&record->shape, shape);
    store_relaxed(&record->state, 77);
    CHECK(take(&loan) == SHM_CORRUPT);
    store_relaxed(&record->state, SHM_READY);
    store_relaxed(&ring.control->consumers.cursor, 8);
    CHECK(take(&loan) == SHM_CORRUPT);
}

int main(void)
{
    uint32_t topologies[] = {0, SHM_ONE_PRODUCER, SHM_ONE_CONSUMER,
                             SHM_ONE_PRODUCER | SHM_ONE_CONSUMER};
    for (int i = 0; i < 4; i++) {
        messages_keep_their_order_and_wrap(topologies[i]);
        a_full_ring_says_so_and_goes_on(topologies[i]);
        an_unfinished_put_is_skipped(topologies[i]);
    }
    items_are_bounded();
    an_abandoned_record_alone_is_empty();
    what_the_dead_borrowed_comes_again();
    loans_come_back_in_any_order();
    a_loan_given_back_unread_is_not_lost();
    dead_holders_of_the_sides_hinder_nobody();
    what_waited_in_the_dead_is_not_counted();
    one_side_is_one_process();
    tasks_of_the_dead_are_done();
    shutdown_drains();
    impossible_words_are_corrupt();
    return 0;
}
