/* Who lives is what the kernel says, across fork, death and descriptors closed by number. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "participants.h"
#include "support.h"

static struct shm_segment segment;

/* A child that joins, tells its identity, and then waits to be killed. */
static int start_child(uint32_t *identity)
{
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    int pid = fork();
    if (pid == 0) {
        CHECK(shm_me(&segment) == 0); /* the page was wiped */
        CHECK(shm_join(&segment, false) == SHM_OK);
        uint32_t me = shm_me(&segment);
        CHECK(write(pipes[1], &me, sizeof me) == sizeof me);
        pause();
    }
    CHECK(read(pipes[0], identity, sizeof *identity) == sizeof *identity);
    close(pipes[0]);
    close(pipes[1]);
    return pid;
}

static void a_child_is_somebody_else_and_dies_by_itself(void)
{
    uint32_t child;
    int pid = start_child(&child);
    CHECK(child != shm_me(&segment));
    CHECK(shm_alive(&segment, child));
    kill(pid, SIGSTOP);
    CHECK(shm_alive(&segment, child)); /* stopped is not dead */
    kill(pid, SIGKILL);
    wait_for(pid);
    CHECK(!shm_alive(&segment, child));
    CHECK(shm_alive(&segment, shm_me(&segment)));
}

/* The parent dies while its child lives: the child must not keep it alive. */
static void a_dead_parent_is_dead_although_its_child_lives(void)
{
    int pipes[2];
    uint32_t told[2];
    CHECK(pipe(pipes) == 0);
    int parent = fork();
    if (parent == 0) {
        CHECK(shm_join(&segment, false) == SHM_OK);
        told[0] = shm_me(&segment);
        int child = fork();
        if (child == 0)
            pause();
        told[1] = (uint32_t)child;
        CHECK(write(pipes[1], told, sizeof told) == sizeof told);
        pause();
    }
    CHECK(read(pipes[0], told, sizeof told) == sizeof told);
    CHECK(shm_alive(&segment, told[0]));
    kill(parent, SIGKILL);
    wait_for(parent);
    CHECK(!shm_alive(&segment, told[0]));
    kill((int)told[1], SIGKILL);
}

static void slots_are_used_again_under_new_names(void)
{
    uint32_t seen[40];
    for (int i = 0; i < 40; i++) { /* more than there are slots */
        int pid = start_child(&seen[i]);
        for (int j = 0; j < i; j++)
            CHECK(seen[i] != seen[j]);
        kill(pid, SIGKILL);
        wait_for(pid);
    }
}

/* Our hold needs no descriptor; and one that means another file now is not asked. */
static void survives_descriptors_closed_by_number(void)
{
    uint32_t child, me = shm_me(&segment);
    int pid = start_child(&child);
    int saved = fcntl(segment.fd, F_DUPFD_CLOEXEC, 100);
    int null = open("/dev/null", O_RDWR);
    CHECK(dup2(null, segment.fd) == segment.fd);
    close(null);
    CHECK(shm_alive(&segment, me));
    CHECK(shm_alive(&segment, child));
    kill(pid, SIGKILL);
    wait_for(pid);
    CHECK(!shm_alive(&segment, child));
    CHECK(dup2(saved, segment.fd) == segment.fd);
    close(saved);
}

static void leaving_tells_the_last(void)
{
    struct shm_segment other;
    bool last;
    join_beside(&other, &segment);
    shm_leave(&other, NULL, &last);
    CHECK(!last);
    shm_leave(&segment, NULL, &last);
    CHECK(last && load_relaxed(&segment.header->use) == SHM_USE_CLEAN);
    CHECK(shm_join(&segment, false) == SHM_OK);
    CHECK(load_relaxed(&segment.header->use) == SHM_USE_OPEN);
}

static void another_boot_is_trusted_only_if_closed(void)
{
    bool last;
    segment.header->boot[0] ^= 1;
    shm_leave(&segment, NULL, &last);
    CHECK(shm_join(&segment, false) == SHM_OK); /* cleanly closed */
    segment.header->boot[0] ^= 1;
    struct shm_segment other = segment;
    other.self = calloc(1, sizeof *other.self);
    CHECK(shm_join(&other, false) == SHM_OTHER_BOOT);
    segment.header->boot[0] ^= 1;
    free(other.self);
}

int main(void)
{
    make_segment(&segment, 0, 0);
    a_child_is_somebody_else_and_dies_by_itself();
    a_dead_parent_is_dead_although_its_child_lives();
    slots_are_used_again_under_new_names();
    survives_descriptors_closed_by_number();
    leaving_tells_the_last();
    another_boot_is_trusted_only_if_closed();
    return 0;
}
