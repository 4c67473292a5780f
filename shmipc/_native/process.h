/* What people want to know about a process, and the identity of this boot. */
#ifndef SHMIPC_PROCESS_H
#define SHMIPC_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct shm_process {
    uint32_t pid;
    uint64_t pid_namespace; /* inode of the namespace */
    uint64_t start_time;    /* clock ticks after boot */
    char command[96];       /* arguments, separated by spaces, cut */
};

/* This process; what /proc does not tell is left zero. */
void shm_describe_process(struct shm_process *process);

/* This thread, as the kernel numbers it, below the number of its process: pid << 32 | thread. */
extern _Thread_local uint64_t shm_thread_known; /* 0: not asked yet */
uint64_t shm_ask_thread(void);

static inline uint64_t shm_this_thread(void)
{
    uint64_t known = shm_thread_known;
    return known ? known : shm_ask_thread();
}

/* Whether a process of this pid namespace that began then still runs; a zombie does not. */
bool shm_process_runs(uint32_t pid, uint64_t start_time);

/* The kernel's random identity of the running boot; zeros where there is none. */
void shm_boot_identity(uint8_t boot[16]);

#endif
