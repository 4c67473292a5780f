/* The guard under other handlers of SIGBUS, and on both sides of them: some raise it anew, as
 * Python's faulthandler does, and some call what was there before. */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "region.h"
#include "support.h"

static shm_atomic32 *reports; /* in memory that the children share with us */
static struct sigaction below_reporter, below_caller;
static shm_atomic32 is_over, entered;
static uint32_t expected = 1; /* threads that report together */

/* What Python's faulthandler does: reports, puts back what was there, and raises once more. */
static void report(int number)
{
    atomic_fetch_add(reports, 1);
    atomic_fetch_add(&entered, 1);
    while (load_acquire(&entered) < expected)
        cpu_relax();
    if (exchange(&is_over, 0))
        sigaction(SIGBUS, &below_reporter, NULL);
    raise(number);
}

static void enable_reporter(void)
{
    struct sigaction action = {.sa_handler = report, .sa_flags = SA_NODEFER};
    CHECK(sigaction(SIGBUS, &action, &below_reporter) == 0);
    store_relaxed(&is_over, 1);
}

static void a_raise_from_over_us_is_no_end(void)
{
    guard();
    enable_reporter();
    touch_watched(3);
    CHECK(load_relaxed(reports) == 1 && shm_guard_is_on_top());
}

static void *touch_a_page(void *at)
{
    CHECK(*(volatile uint8_t *)at == 0);
    return NULL;
}

static void nor_are_two_at_once(void)
{
    pthread_t thread;
    expected = 2;
    guard();
    enable_reporter();
    CHECK(pthread_create(&thread, NULL, touch_a_page, watched.base) == 0);
    touch_a_page(watched.base + shm_page_size());
    pthread_join(thread, NULL);
    CHECK(load_relaxed(reports) == 2);
}

static void *raise_once(void *unused)
{
    raise(SIGBUS);
    return unused;
}

static void each_thread_may_raise(void)
{
    pthread_t thread;
    guard();
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, NULL, raise_once, NULL) == 0);
        pthread_join(thread, NULL);
    }
    raise(SIGBUS);
}

static void reported_below(void)
{
    enable_reporter();
    guard();
    touch_watched(2);
    CHECK(load_relaxed(reports) == 0);
    (void)foreign[0];
}

static void reported_over(void)
{
    guard();
    enable_reporter();
    (void)foreign[0];
}

static void reported_between(void)
{
    guard();
    enable_reporter();
    guard();
    touch_watched(2);
    CHECK(load_relaxed(reports) == 0);
    (void)foreign[0];
}

/* Its lower neighbour, which it puts back, is the guard itself. */
static void reporter_between_has_gone(void)
{
    guard();
    enable_reporter();
    guard();
    CHECK(sigaction(SIGBUS, &below_reporter, NULL) == 0);
    CHECK(shm_guard_is_on_top());
    touch_watched(2);
    (void)foreign[0];
}

/* The levels do not run out, however often. */
static int times;

static void reporter_comes_and_goes(void)
{
    guard();
    for (int i = 0; i < times; i++) {
        enable_reporter();
        guard();
        CHECK(sigaction(SIGBUS, &below_reporter, NULL) == 0);
        guard();
    }
    enable_reporter();
    guard();
    (void)foreign[0];
}

static void call_below(int number, siginfo_t *info, void *context)
{
    atomic_fetch_add(reports, 1);
    if (below_caller.sa_flags & SA_SIGINFO)
        below_caller.sa_sigaction(number, info, context);
}

static void call_us(void)
{
    struct sigaction action = {.sa_sigaction = call_below, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGBUS, &action, &below_caller) == 0);
}

static void called_between(void)
{
    guard();
    call_us();
    guard();
    touch_watched(2);
    CHECK(load_relaxed(reports) == 0);
    (void)foreign[0];
}

static void raised_twice_without_a_fault(void)
{
    guard();
    raise(SIGBUS);
    touch_watched(0);
    raise(SIGBUS);
    store_relaxed(reports, 1);
    raise(SIGBUS);
}

static void unguarded_from_below(void)
{
    guard();
    call_us();
    shm_unguard_faults();
    CHECK(!shm_faults_are_guarded());
    touch_watched(0);
}

static void guarded_again(void)
{
    for (int i = 0; i < 20; i++) {
        guard();
        guard();
        shm_unguard_faults();
        CHECK(!shm_guard_is_on_top());
        shm_unguard_faults();
    }
    guard();
    call_us();
    shm_unguard_faults();
    guard();
    touch_watched(6);
}

static void dies_after(uint32_t reported, void (*play)(void))
{
    store_relaxed(reports, 0);
    dies_of_bus_error(play);
    CHECK(load_relaxed(reports) == reported);
}

int main(void)
{
    alarm(240);
    int flags = MAP_SHARED | MAP_ANONYMOUS;
    reports = mmap(NULL, sizeof *reports, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(reports != MAP_FAILED);
    lose_memory();
    ends_well(a_raise_from_over_us_is_no_end);
    for (int i = 0; i < 50; i++) {
        store_relaxed(reports, 0);
        ends_well(nor_are_two_at_once);
    }
    ends_well(each_thread_may_raise);
    dies_after(1, reported_below);
    dies_after(1, reported_over);
    dies_after(1, reported_between);
    dies_after(0, reporter_between_has_gone);
    for (times = 1; times < 20; times++)
        dies_after(1, reporter_comes_and_goes);
    dies_after(1, called_between);
    dies_after(1, raised_twice_without_a_fault);
    dies_after(1, unguarded_from_below);
    ends_well(guarded_again);
    return 0;
}
