#define _GNU_SOURCE
#include "process.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Reads a small file; returns the bytes read, 0 when it cannot be. */
static size_t read_small(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, buffer, size - 1);
    close(fd);
    size_t length = n > 0 ? (size_t)n : 0;
    buffer[length] = '\0';
    return length;
}

/* State and start time of a process, fields 3 and 22 of its stat; they are counted after the
 * command, which may contain anything.  False if there is no such process. */
static bool read_stat(const char *path, char *state, uint64_t *start_time)
{
    char text[1024];
    char *field = read_small(path, text, sizeof text) ? strrchr(text, ')') : NULL;
    if (!field || field[1] != ' ')
        return false;
    *state = field[2];
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    *start_time = field ? strtoull(field, NULL, 10) : 0;
    return true;
}

bool shm_process_runs(uint32_t pid, uint64_t start_time)
{
    char path[32], state;
    uint64_t started;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    if (!read_stat(path, &state, &started))
        return false;
    return state != 'Z' && state != 'X' && started == start_time;
}

static void command_line(char *text, size_t size)
{
    size_t length = read_small("/proc/self/cmdline", text, size);
    for (size_t i = 0; i + 1 < length; i++)
        if (text[i] == '\0')
            text[i] = ' ';
}

void shm_describe_process(struct shm_process *process)
{
    struct stat namespace;
    char state;
    memset(process, 0, sizeof *process);
    process->pid = (uint32_t)getpid();
    read_stat("/proc/self/stat", &state, &process->start_time);
    if (stat("/proc/self/ns/pid", &namespace) == 0)
        process->pid_namespace = namespace.st_ino;
    command_line(process->command, sizeof process->command);
}

_Thread_local uint64_t shm_thread_known;

/* Of the threads of a process that forks, only the one that forks is in the child. */
static void forget_thread(void) { shm_thread_known = 0; }

static void forget_at_fork(void) { pthread_atfork(NULL, NULL, forget_thread); }

uint64_t shm_ask_thread(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, forget_at_fork);
    shm_thread_known = (uint64_t)getpid() << 32 | (uint32_t)syscall(SYS_gettid);
    return shm_thread_known;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void shm_boot_identity(uint8_t boot[16])
{
    char text[64];
    memset(boot, 0, 16);
    read_small("/proc/sys/kernel/random/boot_id", text, sizeof text);
    int digits = 0;
    for (const char *c = text; *c && digits < 32; c++) {
        int value = hex_digit(*c);
        if (value >= 0) {
            boot[digits / 2] |= (uint8_t)(value << (digits % 2 ? 0 : 4));
            digits++;
        }
    }
}
