/* Copies from and to a region that end in an answer where a plain one would end in a signal.
 *
 * A file's bytes are read with pread, which costs a third of process_vm_readv and shows the same
 * page cache; what is private, or written, goes through process_vm_readv and _writev to ourselves,
 * where the kernel looks at the pages on our behalf.  Sandboxes that forbid these get the same from
 * a scratch file, more slowly. */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static int plain_copy(const struct shm_region *region, void *to, const void *from, size_t length,
                      size_t *done)
{
    uint64_t fault;
    memmove(to, from, length);
    *done = length;
    return shm_region_has_fault(region, &fault) ? SHM_FAULT : SHM_OK;
}

static int read_file(const struct shm_region *region, void *to, size_t offset, size_t length,
                     size_t *done)
{
    while (*done < length) {
        ssize_t got = pread(region->spec.fd, (char *)to + *done, length - *done,
                            (off_t)(region->spec.offset + offset + *done));
        if (got > 0)
            *done += (size_t)got;
        else if (got == 0)
            return SHM_FAULT; /* the file ends before */
        else if (errno == EIO || errno == EFAULT)
            return SHM_FAULT;
        else if (errno != EINTR)
            return SHM_E_OS;
    }
    return SHM_OK;
}

static bool is_forbidden(int error) { return error == ENOSYS || error == EPERM; }

/* Through a file of our own: write() and read() answer EFAULT as the others do. */
static ssize_t copy_by_file(void *to, const void *from, size_t length)
{
    int fd = memfd_create("shmipc-copy", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t got = pwrite(fd, from, length, 0);
    if (got > 0)
        got = pread(fd, to, (size_t)got, 0);
    int error = errno;
    close(fd);
    errno = error;
    return got;
}

static ssize_t copy_by_kernel(void *to, const void *from, size_t length, bool writes)
{
    struct iovec local = {writes ? (void *)from : to, length};
    struct iovec remote = {writes ? to : (void *)from, length};
    ssize_t got = writes ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
                         : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    return got < 0 && is_forbidden(errno) ? copy_by_file(to, from, length) : got;
}

static int kernel_copy(uint8_t *to, const uint8_t *from, size_t length, bool writes, size_t *done)
{
    while (*done < length) {
        ssize_t got = copy_by_kernel(to + *done, from + *done, length - *done, writes);
        if (got > 0)
            *done += (size_t)got;
        else if (got == 0 || errno == EFAULT || errno == EIO || errno == ENOSPC)
            return SHM_FAULT;
        else if (errno != EINTR)
            return SHM_E_OS;
    }
    return SHM_OK;
}

int shm_region_read(const struct shm_region *region, void *to, size_t offset, size_t length,
                    size_t *done)
{
    uint64_t fault;
    *done = 0;
    if (shm_region_has_fault(region, &fault))
        return SHM_FAULT;
    if (shm_region_is_direct(region))
        return plain_copy(region, to, region->base + offset, length, done);
    if (region->spec.file_reads && (region->spec.protection & PROT_READ) && !region->mixed)
        return read_file(region, to, offset, length, done);
    return kernel_copy(to, region->base + offset, length, false, done);
}

int shm_region_write(const struct shm_region *region, size_t offset, const void *from,
                     size_t length, size_t *done)
{
    uint64_t fault;
    *done = 0;
    if (shm_region_has_fault(region, &fault))
        return SHM_FAULT;
    if ((region->spec.protection & PROT_WRITE) && shm_region_is_direct(region))
        return plain_copy(region, region->base + offset, from, length, done);
    return kernel_copy(region->base + offset, from, length, true, done);
}
