#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mapping.h"

void make_segment(struct shm_segment *segment, uint64_t body_size, uint64_t payload_size)
{
    struct shm_spec spec = {.kind = SHM_KIND_RING,
                            .slot_count = 32,
                            .body_size = body_size,
                            .payload_size = payload_size};
    int fd = memfd_create("shmipc-test", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, (off_t)shm_file_size(&spec)) == 0);
    CHECK(shm_format(fd, &spec) == SHM_OK);
    CHECK(shm_segment_open(segment, fd) == SHM_OK);
    CHECK(shm_join(segment, false) == SHM_OK);
}

void join_beside(struct shm_segment *other, const struct shm_segment *segment)
{
    int status;
    *other = *segment;
    other->self = shm_map_private_to_process();
    CHECK(other->self);
    while ((status = shm_join(other, false)) == SHM_LOCKED)
        ;
    CHECK(status == SHM_OK);
}

void join_in_slot_of(struct shm_segment *other, const struct shm_segment *segment,
                     uint32_t identity)
{
    store_relaxed(&segment->header->next_slot, shm_slot_of(identity));
    join_beside(other, segment);
    CHECK(shm_slot_of(shm_me(other)) == shm_slot_of(identity) && shm_me(other) != identity);
}

int start_player(struct shm_segment *segment, void (*play)(void), uint32_t *identity)
{
    int pipes[2];
    uint32_t me;
    CHECK(pipe(pipes) == 0);
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(120);
        CHECK(shm_join(segment, false) == SHM_OK);
        play();
        me = shm_me(segment);
        CHECK(write(pipes[1], &me, sizeof me) == sizeof me);
        while (true)
            pause();
    }
    close(pipes[1]);
    CHECK(read(pipes[0], &me, sizeof me) == sizeof me);
    close(pipes[0]);
    if (identity)
        *identity = me;
    return pid;
}

void kill_player(int pid)
{
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(wait_for(pid) == -1);
}

void run_threads(int count, void *(*play)(void *number))
{
    pthread_t threads[64];
    CHECK(count <= 64);
    for (intptr_t i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, play, (void *)i) == 0);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

void make_ring(struct shm_segment *segment, uint64_t max_items, uint32_t flags)
{
    struct shm_ring_spec spec = {
        .capacity = SHM_GRANULE, .max_items = max_items, .flags = flags};
    make_segment(segment, shm_ring_body_size(32), SHM_GRANULE);
    shm_ring_format(segment, &spec);
}

int new_file(size_t pages)
{
    int fd = memfd_create("shmipc-test", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, (off_t)(pages * shm_page_size())) == 0);
    return fd;
}

struct shm_region_spec region_spec(int fd, size_t pages, int sharing)
{
    return (struct shm_region_spec){.fd = fd,
                                    .length = pages * shm_page_size(),
                                    .reserve = 2 * pages * shm_page_size(),
                                    .page = shm_page_size(),
                                    .protection = PROT_READ | PROT_WRITE,
                                    .flags = sharing | (fd < 0 ? MAP_ANONYMOUS : 0)};
}

void map_region(struct shm_region *region, int fd, size_t pages, int sharing)
{
    struct shm_region_spec spec = region_spec(fd, pages, sharing);
    CHECK(shm_region_map(region, &spec) == SHM_OK);
}

void done_with(struct shm_region *region)
{
    if (region->spec.fd >= 0)
        close(region->spec.fd);
    shm_region_unmap(region);
    CHECK(region->base == NULL);
    shm_region_unmap(region); /* once more does no harm */
    CHECK(shm_active_regions() == 0);
    CHECK(shm_active_bytes() == 0);
}

struct shm_region watched;
volatile uint8_t *foreign;

void lose_memory(void)
{
    int fd = new_file(2);
    map_region(&watched, fd, 2, MAP_SHARED);
    foreign = mmap(NULL, shm_page_size(), PROT_READ, MAP_SHARED, fd, 0);
    CHECK(foreign != MAP_FAILED);
    CHECK(ftruncate(fd, 0) == 0);
}

void touch_watched(size_t offset)
{
    uint64_t fault;
    CHECK(*(volatile uint8_t *)(watched.base + offset) == 0);
    CHECK(shm_region_has_fault(&watched, &fault) && fault == offset);
}

void guard(void)
{
    CHECK(shm_guard_faults() == 0);
    CHECK(shm_faults_are_guarded() && shm_guard_is_on_top());
}

static int status_of_child(void (*play)(void))
{
    int status, pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        alarm(60);
        play();
        exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

void ends_well(void (*play)(void)) { CHECK(status_of_child(play) == 0); }

void dies_of_bus_error(void (*play)(void))
{
    int status = status_of_child(play);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int wait_for(int pid)
{
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The sanitizers would handle SIGBUS themselves. */
#define VISIBLE __attribute__((visibility("default")))
VISIBLE const char *__asan_default_options(void);
VISIBLE const char *__tsan_default_options(void);
VISIBLE const char *__ubsan_default_options(void);
const char *__asan_default_options(void) { return "handle_sigbus=0"; }
const char *__tsan_default_options(void) { return "handle_sigbus=0"; }
const char *__ubsan_default_options(void) { return "handle_sigbus=0"; }
