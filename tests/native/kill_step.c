#include "kill_step.h"

#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

#define ASLEEP_LOOKS 4 /* in a row: a call may sleep for a moment without waiting for anybody */

#if defined(__x86_64__)
#define PC(registers) ((registers).rip)
#elif defined(__aarch64__)
#define PC(registers) ((registers).pc)
#else
#error "the registers of this machine are not known here"
#endif

static bool is_permitted(void)
{
    int pid = fork(), status;
    CHECK(pid >= 0);
    if (pid == 0)
        _exit(kill_offer_myself() ? 0 : 77);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFSTOPPED(status))
        return false;
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid);
    return true;
}

const char *kill_why_not_stepped(void)
{
#if defined(__aarch64__)
    /* A pair of load-exclusive and store-exclusive never succeeds when it is stepped.  With LSE,
     * which compilers' helpers choose at run time, an atomic operation is one instruction. */
    if (!(getauxval(AT_HWCAP) & HWCAP_ATOMICS))
        return "this processor has no atomic instructions that can be stepped (LSE)";
#endif
    return is_permitted() ? NULL : "ptrace is not permitted here";
}

bool kill_offer_myself(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && raise(SIGSTOP) == 0;
}

static void read_pc(struct kill_stepper *stepper)
{
    struct user_regs_struct registers;
    struct iovec into = {&registers, sizeof registers};
    CHECK(ptrace(PTRACE_GETREGSET, stepper->pid, (void *)NT_PRSTATUS, &into) == 0);
    stepper->pc = (uintptr_t)PC(registers);
    if (kill_is_own(stepper->pc))
        stepper->own_pc = stepper->pc;
}

bool kill_begin_stepping(struct kill_stepper *stepper, int pid)
{
    int status;
    *stepper = (struct kill_stepper){.pid = pid};
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFSTOPPED(status))
        return false;
    CHECK(WSTOPSIG(status) == SIGSTOP);
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL) == 0);
    read_pc(stepper);
    return true;
}

/* The process is a fork of ours, so the same instructions lie here at the same addresses. */
bool kill_is_at_call(const struct kill_stepper *stepper)
{
    const uint8_t *code = (const uint8_t *)stepper->pc;
#if defined(__x86_64__)
    return (code[0] == 0x0f && (code[1] == 0x05 || code[1] == 0x34)) ||
           (code[0] == 0xcd && code[1] == 0x80);
#else
    return code[0] == 0x01 && code[1] == 0x00 && code[2] == 0x00 && code[3] == 0xd4;
#endif
}

static void stopped(struct kill_stepper *stepper, int status)
{
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    stepper->steps++;
    read_pc(stepper);
}

void kill_wait_for_stop(struct kill_stepper *stepper)
{
    int status;
    CHECK(waitpid(stepper->pid, &status, 0) == stepper->pid);
    stopped(stepper, status);
}

/* The state of a process, as proc(5) has it. */
static char state_of(int pid)
{
    char path[32], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 'X';
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    char *end = length > 0 ? strrchr(text, ')') : NULL;
    return end ? end[2] : 'X';
}

void kill_wait_until_asleep(int pid)
{
    for (int looks = 0; looks < ASLEEP_LOOKS;) {
        char state = state_of(pid);
        CHECK(state != 'X' && state != 'Z');
        looks = state == 'S' ? looks + 1 : 0;
        usleep(50);
    }
}

static enum kill_stop step_call(struct kill_stepper *stepper)
{
    int status;
    for (int looks = 0; looks < ASLEEP_LOOKS;) {
        int pid = waitpid(stepper->pid, &status, WNOHANG);
        CHECK(pid >= 0);
        if (pid == stepper->pid) {
            stopped(stepper, status);
            return KILL_STEPPED;
        }
        looks = state_of(stepper->pid) == 'S' ? looks + 1 : 0;
        if (looks)
            usleep(50);
        else
            sched_yield();
    }
    return KILL_ASLEEP;
}

enum kill_stop kill_step(struct kill_stepper *stepper)
{
    bool call = kill_is_at_call(stepper);
    CHECK(ptrace(PTRACE_SINGLESTEP, stepper->pid, NULL, NULL) == 0);
    if (call)
        return step_call(stepper);
    kill_wait_for_stop(stepper);
    return KILL_STEPPED;
}

void kill_now(struct kill_stepper *stepper)
{
    int status;
    CHECK(kill(stepper->pid, SIGKILL) == 0);
    do
        CHECK(waitpid(stepper->pid, &status, 0) == stepper->pid);
    while (WIFSTOPPED(status)); /* a stop that came before the kill */
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
