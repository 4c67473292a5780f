/* One process taken through its instructions by another (ptrace). */
#ifndef SHMIPC_TESTS_KILL_STEP_H
#define SHMIPC_TESTS_KILL_STEP_H

#include <stdbool.h>
#include <stdint.h>

struct kill_stepper {
    int pid;
    uintptr_t pc;     /* of the instruction that comes next */
    uintptr_t own_pc; /* the last one that lay in this program, not in a library */
    uint64_t steps;
};

/* What a step led to. */
enum kill_stop { KILL_STEPPED, KILL_ASLEEP };

/* NULL, or why stepping does not work here. */
const char *kill_why_not_stepped(void);

/* In the process that is to be stepped: stops until its parent steps it.  False if the system does
 * not permit it. */
bool kill_offer_myself(void);

/* In the parent, for a child that has offered itself or will; false if it ended instead. */
bool kill_begin_stepping(struct kill_stepper *stepper, int pid);

/* One instruction.  Asleep: it is a system call, in which the process sleeps; kill_wait_for_stop
 * waits until it has returned. */
enum kill_stop kill_step(struct kill_stepper *stepper);
void kill_wait_for_stop(struct kill_stepper *stepper);

/* Whether the next instruction is a system call. */
bool kill_is_at_call(const struct kill_stepper *stepper);

/* SIGKILL, where it stands or sleeps; gone when this returns. */
void kill_now(struct kill_stepper *stepper);

/* Whether a process sleeps in the kernel: now, and at some looks in a row. */
void kill_wait_until_asleep(int pid);

/* Whether the address is code of this program itself, not of its way into a library. */
bool kill_is_own(uintptr_t address);

/* The function of this program that holds the address; "?" if its symbols were stripped. */
const char *kill_function_at(uintptr_t address);

#endif
