#define _GNU_SOURCE
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static void *checked(void *address) { return address == MAP_FAILED ? NULL : address; }

/* The whole range is reserved first: MAP_FIXED then only ever replaces memory that is ours. */
uint8_t *shm_map(int fd, size_t size, size_t mirror)
{
    uint8_t *base =
        checked(mmap(NULL, size + mirror, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (!base)
        return NULL;
    int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;
    off_t tail = (off_t)(size - mirror);
    if (mmap(base, size, protection, flags, fd, 0) == MAP_FAILED ||
        (mirror && mmap(base + size, mirror, protection, flags, fd, tail) == MAP_FAILED)) {
        munmap(base, size + mirror);
        return NULL;
    }
    return base;
}

void shm_unmap(uint8_t *base, size_t size, size_t mirror) { munmap(base, size + mirror); }

void *shm_map_private_to_process(void)
{
    size_t size = page_size();
    void *page = checked(
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (page && madvise(page, size, MADV_WIPEONFORK) != 0) {
        munmap(page, size);
        return NULL;
    }
    return page;
}

void shm_unmap_private(void *page) { munmap(page, page_size()); }

int shm_secret_file(void)
{
#ifdef SYS_memfd_secret
    return (int)syscall(SYS_memfd_secret, O_CLOEXEC);
#else
    errno = ENOSYS;
    return -1;
#endif
}

void *shm_hold(int fd)
{
    void *hold = checked(mmap(NULL, page_size(), PROT_NONE, MAP_SHARED, fd, 0));
    if (hold && madvise(hold, page_size(), MADV_DONTFORK) != 0) {
        munmap(hold, page_size());
        return NULL;
    }
    return hold;
}

void shm_release_hold(void *hold) { munmap(hold, page_size()); }
