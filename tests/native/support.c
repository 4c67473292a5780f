#include "support.h"

#include <fcntl.h>
#include <sys/mman.h>
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

void make_ring(struct shm_segment *segment, uint64_t max_items, uint32_t flags)
{
    struct shm_ring_spec spec = {
        .capacity = SHM_GRANULE, .max_items = max_items, .flags = flags};
    make_segment(segment, shm_ring_body_size(32), SHM_GRANULE);
    shm_ring_format(segment, &spec);
}

int wait_for(int pid)
{
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
