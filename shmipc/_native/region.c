#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static shm_atomic64 active_regions, active_bytes;

uint64_t shm_active_regions(void) { return load_relaxed(&active_regions); }
uint64_t shm_active_bytes(void) { return load_relaxed(&active_bytes); }

size_t shm_page_size(void)
{
    static shm_atomic64 known;
    uint64_t size = load_relaxed(&known);
    if (!size) {
        size = (uint64_t)sysconf(_SC_PAGESIZE);
        store_relaxed(&known, size);
    }
    return size;
}

static size_t whole_pages(const struct shm_region *region, size_t length)
{
    size_t page = region->spec.page;
    return (length + page - 1) / page * page;
}

static void count(struct shm_region *region, size_t before, size_t after)
{
    if (!region->owned)
        return;
    atomic_fetch_add(&active_regions, (uint64_t)(after != 0) - (before != 0));
    atomic_fetch_add(&active_bytes, whole_pages(region, after) - whole_pages(region, before));
}

/* Anonymous pages over a part of our own range: never faults, costs nothing until it is written. */
static int put_zeros(uint8_t *at, size_t length, int protection)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return length && mmap(at, length, protection, flags, -1, 0) == MAP_FAILED ? SHM_E_OS : SHM_OK;
}

/* Some kernels take away what was to be replaced before they find that the new mapping cannot be
 * had.  The addresses are taken back before somebody else gets them. */
static void fill_hole(uint8_t *at, size_t length)
{
    int error = errno;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    void *got = mmap(at, length, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (got != MAP_FAILED && got != at) /* a kernel before 4.17 */
        munmap(got, length);
    errno = error;
}

/* From byte `from` to byte `to` of the region, both on pages, the object itself. */
static int put_object(struct shm_region *region, size_t from, size_t to)
{
    const struct shm_region_spec *spec = &region->spec;
    if (from >= to)
        return SHM_OK;
    void *at = mmap(region->base + from, to - from, spec->protection, spec->flags | MAP_FIXED,
                    spec->fd, spec->fd < 0 ? 0 : (off_t)(spec->offset + from));
    if (at != MAP_FAILED)
        return SHM_OK;
    fill_hole(region->base + from, to - from);
    return SHM_E_OS;
}

static uint8_t *take_addresses(const struct shm_region_spec *spec, size_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    bool by_hand = spec->page > shm_page_size() && !spec->address; /* huge pages are aligned */
    size_t extra = by_hand ? spec->page : 0;
    if (spec->address)
        flags |= MAP_FIXED_NOREPLACE;
    uint8_t *got = mmap(spec->address, length + extra, PROT_NONE, flags, -1, 0);
    if (got == MAP_FAILED)
        return NULL;
    if (spec->address && got != spec->address) { /* a kernel before 4.17 takes it for a hint */
        munmap(got, length + extra);
        errno = EEXIST;
        return NULL;
    }
    if (extra) {
        size_t head = (spec->page - (uintptr_t)got % spec->page) % spec->page;
        if (head)
            munmap(got, head);
        got += head;
        if (extra > head)
            munmap(got + length, extra - head);
    }
    return got;
}

static int watch(struct shm_region *region)
{
    if (region->spec.stable)
        return SHM_OK;
    region->watch = shm_watch_add((uintptr_t)region->base,
                                  whole_pages(region, region->spec.reserve), region->spec.page,
                                  region->spec.protection);
    if (!region->watch)
        return SHM_E_OS;
    shm_watch_move_end(region->watch,
                       (uintptr_t)region->base + whole_pages(region, region->spec.length));
    return SHM_OK;
}

int shm_region_map(struct shm_region *region, const struct shm_region_spec *spec)
{
    memset(region, 0, sizeof *region);
    region->spec = *spec;
    region->owned = true;
    size_t reserve = whole_pages(region, spec->reserve);
    size_t length = whole_pages(region, spec->length);
    if (reserve < spec->reserve || reserve > SIZE_MAX - spec->page) { /* has wrapped, or would */
        errno = ENOMEM;
        return SHM_E_OS;
    }
    region->base = take_addresses(spec, reserve);
    if (!region->base)
        return SHM_E_OS;
    /* Nothing behind it and shared: children share only what is mapped before they are made. */
    bool whole = spec->fd < 0 && (spec->flags & MAP_SHARED);
    int status = put_object(region, 0, whole ? reserve : length);
    if (status == SHM_OK)
        status = watch(region);
    if (status != SHM_OK) {
        int error = errno;
        munmap(region->base, reserve);
        region->base = NULL;
        errno = error;
        return status;
    }
    if (spec->fd < 0) /* for /proc/PID/maps; a system without such names says no */
        prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, region->base, reserve, "shmipc");
    count(region, 0, spec->length);
    return SHM_OK;
}

int shm_region_borrow(struct shm_region *region, uint8_t *base, const struct shm_region_spec *spec)
{
    memset(region, 0, sizeof *region);
    region->spec = *spec;
    region->base = base;
    int status = watch(region);
    if (status != SHM_OK)
        region->base = NULL;
    return status;
}

static void set_length(struct shm_region *region, size_t length)
{
    if (region->watch)
        shm_watch_move_end(region->watch, (uintptr_t)region->base + whole_pages(region, length));
    count(region, region->spec.length, length);
    region->spec.length = length;
}

/* What a file's end does for the rest of its last page: nobody finds there what was before. */
static void forget_bytes(struct shm_region *region, size_t from, size_t to)
{
    size_t page = whole_pages(region, from);
    if (page < to) /* shared memory gives the pages back, for all who share it */
        madvise(region->base + page, whole_pages(region, to) - page, MADV_REMOVE);
    memset(region->base + from, 0, (page < to ? page : to) - from);
}

int shm_region_resize(struct shm_region *region, size_t length)
{
    if (!region->base)
        return SHM_OK;
    if (region->spec.fd < 0 && length < region->spec.length && !region->mixed)
        forget_bytes(region, length, region->spec.length);
    size_t before = whole_pages(region, region->spec.length);
    size_t after = whole_pages(region, length);
    bool whole = region->spec.fd < 0 && (region->spec.flags & MAP_SHARED);
    int status = whole           ? SHM_OK
                 : after >= before ? put_object(region, before, after)
                                   : put_zeros(region->base + after, before - after,
                                               PROT_READ | PROT_WRITE);
    if (status == SHM_OK)
        set_length(region, length);
    return status;
}

int shm_region_remap(struct shm_region *region, size_t length)
{
    if (!region->base)
        return SHM_OK;
    size_t before = whole_pages(region, region->spec.length);
    size_t after = whole_pages(region, length);
    int status = put_object(region, 0, after);
    if (status == SHM_OK && after < before)
        status = put_zeros(region->base + after, before - after, PROT_READ | PROT_WRITE);
    if (status == SHM_OK) {
        set_length(region, length);
        region->mixed = false;
        if (region->watch)
            shm_watch_forget_fault(region->watch);
    }
    return status;
}

int shm_region_empty(struct shm_region *region)
{
    int status = put_zeros(region->base, whole_pages(region, region->spec.reserve),
                           PROT_READ | PROT_WRITE);
    if (status != SHM_OK)
        return status;
    set_length(region, 0);
    region->spec.stable = true;
    region->mixed = false;
    return SHM_OK;
}

int shm_region_unmap(struct shm_region *region)
{
    if (!region->base)
        return SHM_OK;
    uintptr_t base = (uintptr_t)region->base;
    if (region->watch)
        shm_watch_move_base(region->watch, 0);
    if (region->owned && munmap(region->base, whole_pages(region, region->spec.reserve)) != 0) {
        if (region->watch)
            shm_watch_move_base(region->watch, base);
        return SHM_E_OS;
    }
    if (region->watch)
        shm_watch_remove(region->watch);
    if (region->owned)
        count(region, region->spec.length, 0);
    region->watch = NULL;
    region->base = NULL;
    return SHM_OK;
}

struct shm_pages shm_region_pages(const struct shm_region *region, size_t offset, size_t length,
                                  bool inward)
{
    size_t page = region->spec.page;
    size_t start = offset / page * page, end = whole_pages(region, offset + length);
    if (inward) {
        start = whole_pages(region, offset);
        end = offset + length == region->spec.length ? end : (offset + length) / page * page;
    }
    if (length == 0 || end < start)
        end = start;
    return (struct shm_pages){region->base + start, end - start};
}

int shm_region_protect(struct shm_region *region, struct shm_pages pages, int protection)
{
    if (pages.length && mprotect(pages.start, pages.length, protection) != 0)
        return SHM_E_OS;
    bool whole = pages.length >= whole_pages(region, region->spec.length);
    if (whole) {
        region->spec.protection = protection;
        region->mixed = false;
        if (region->watch)
            shm_watch_protect(region->watch, protection);
    } else if (pages.length && protection != region->spec.protection) {
        region->mixed = true;
    }
    return SHM_OK;
}
