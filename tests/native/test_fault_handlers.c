/* The guard over other handlers of SIGBUS, which get what is not its own. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "region.h"
#include "support.h"

static void handle_with(void (*handler)(int), int flags, struct sigaction *below)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(sigaction(SIGBUS, &action, below) == 0);
}

static void *volatile address;
static sigjmp_buf way_out;

static void repair(int number, siginfo_t *info, void *context)
{
    address = number == SIGBUS && context ? info->si_addr : NULL;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    mmap((void *)foreign, shm_page_size(), PROT_READ, flags, -1, 0);
}

static void passes_on_with_the_address(void)
{
    struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
    guard();
    touch_watched(5);
    CHECK(address == NULL);
    CHECK(foreign[7] == 0);
    CHECK(address == (void *)&foreign[7]);
    shm_unguard_faults();
    CHECK(!shm_faults_are_guarded() && !shm_guard_is_on_top());
    CHECK(sigaction(SIGBUS, NULL, &action) == 0 && action.sa_sigaction == repair);
}

static void jump(int number) { siglongjmp(way_out, number); }

static void expect_a_jump(void)
{
    int number = sigsetjmp(way_out, 1);
    if (number == 0) {
        (void)foreign[0];
        CHECK(!"the load has been done");
    }
    CHECK(number == SIGBUS);
}

static void passes_on_to_a_plain_handler(void)
{
    handle_with(jump, 0, NULL);
    guard();
    expect_a_jump();
    touch_watched(shm_page_size());
    expect_a_jump();
}

/* More than there are levels. */
static void goes_on_top_again_and_again(void)
{
    for (int i = 0; i < 40; i++) {
        handle_with(jump, 0, NULL);
        CHECK(!shm_guard_is_on_top());
        guard();
        expect_a_jump();
    }
    touch_watched(1);
}

static void passes_on_to_the_default(void)
{
    guard();
    touch_watched(0);
    (void)foreign[0];
}

static void a_fault_cannot_be_ignored(void)
{
    handle_with(SIG_IGN, 0, NULL);
    guard();
    (void)foreign[0];
}

static void killed_by_another(void)
{
    guard();
    if (fork() == 0) {
        kill(getppid(), SIGBUS);
        _exit(0);
    }
    for (;;)
        pause();
}

static void a_kill_can_be_ignored(void)
{
    handle_with(SIG_IGN, 0, NULL);
    guard();
    int pid = fork();
    if (pid == 0) {
        kill(getppid(), SIGBUS);
        _exit(0);
    }
    while (waitpid(pid, NULL, 0) != pid)
        CHECK(errno == EINTR);
    touch_watched(4);
}

static void unguarded(void)
{
    guard();
    shm_unguard_faults();
    touch_watched(0);
}

int main(void)
{
    alarm(240);
    lose_memory();
    ends_well(passes_on_with_the_address);
    ends_well(passes_on_to_a_plain_handler);
    ends_well(goes_on_top_again_and_again);
    dies_of_bus_error(passes_on_to_the_default);
    dies_of_bus_error(a_fault_cannot_be_ignored);
    dies_of_bus_error(killed_by_another);
    ends_well(a_kill_can_be_ignored);
    dies_of_bus_error(unguarded);
    return 0;
}
