/* A range of addresses of this process with memory behind it: a file, or nothing.
 *
 * The range is ours from shm_region_map to shm_region_unmap, whatever lies in it meanwhile, so a
 * pointer into it that somebody forgot never reads another mapping.  MAP_FIXED only ever replaces
 * pages inside it.  The caller serialises calls on one region; only copies may run beside others,
 * because none of these functions gives addresses back but shm_region_unmap. */
#ifndef SHMIPC_REGION_H
#define SHMIPC_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "faults.h"
#include "status.h"

/* What is to be mapped, and how. */
struct shm_region_spec {
    int fd; /* -1: nothing behind it */
    uint64_t offset;  /* in the file, on a page */
    size_t length;    /* mapped at once; 0 is possible where something is reserved */
    size_t reserve;   /* addresses to keep, at least `length` */
    size_t page;      /* bytes of a page of this memory: the system's, or a huge one */
    int protection;   /* PROT_* */
    int flags;        /* MAP_SHARED or MAP_PRIVATE, MAP_ANONYMOUS, MAP_HUGETLB */
    void *address;    /* there or nowhere (EEXIST); NULL: anywhere */
    bool stable;      /* no access can fault: nobody can take the memory away */
    bool file_reads;  /* pread gives what the mapping shows */
};

struct shm_region {
    uint8_t *base; /* NULL: nothing is mapped */
    struct shm_region_spec spec;
    struct shm_watch *watch; /* NULL where `stable` */
    bool mixed;              /* some pages have another protection than `spec` says */
    bool owned;              /* false: somebody else's mapping, which he keeps for us */
};

size_t shm_page_size(void);

int shm_region_map(struct shm_region *region, const struct shm_region_spec *spec);

/* A region in memory that `fd`'s owner has mapped and keeps mapped. */
int shm_region_borrow(struct shm_region *region, uint8_t *base,
                      const struct shm_region_spec *spec);

/* The same addresses, more or less of the file in them: `length` up to the reserve.  What a shorter
 * one lets go reads as zeros. */
int shm_region_resize(struct shm_region *region, size_t length);

/* All of it once more from the file, also where shm_fault_guard put memory of its own. */
int shm_region_remap(struct shm_region *region, size_t length);

/* Zeros instead of what was there; the addresses stay ours. */
int shm_region_empty(struct shm_region *region);

/* SHM_E_OS, and nothing has changed, when the system has no mapping left to split one with. */
int shm_region_unmap(struct shm_region *region);

/* The whole pages that `length` bytes at `offset` touch, or with `inward` those they fill. */
struct shm_pages {
    uint8_t *start;
    size_t length;
};
struct shm_pages shm_region_pages(const struct shm_region *region, size_t offset, size_t length,
                                  bool inward);

int shm_region_protect(struct shm_region *region, struct shm_pages pages, int protection);

/* Bytes from and to `offset` of the region, by copies that cannot raise a signal: the kernel's,
 * or plain ones where no access can fault or a guard is there.  SHM_FAULT: the memory cannot be
 * had.  `done` counts the bytes. */
int shm_region_read(const struct shm_region *region, void *to, size_t offset, size_t length,
                    size_t *done);
int shm_region_write(const struct shm_region *region, size_t offset, const void *from,
                     size_t length, size_t *done);

/* Where `size` bytes stand among `length` at `offset`: the first place, or the last, counted from
 * `offset`; more than `length` if nowhere.  With SHM_FAULT, where the memory is gone. */
struct shm_search {
    size_t offset, length;
    const void *what;
    size_t size;
    bool last;
};
int shm_region_find(const struct shm_region *region, const struct shm_search *search,
                    size_t *found);

/* Whether loads, and stores where allowed, may go there without the kernel's help. */
static inline bool shm_region_is_direct(const struct shm_region *region)
{
    return (region->spec.stable || shm_faults_are_guarded()) && !region->mixed &&
           (region->spec.protection & PROT_READ);
}

/* Whether the guard had to put memory of its own into it. */
static inline bool shm_region_has_fault(const struct shm_region *region, uint64_t *offset)
{
    return region->watch && shm_watch_fault(region->watch, offset);
}

/* Regions that are mapped, and their bytes in whole pages. */
uint64_t shm_active_regions(void);
uint64_t shm_active_bytes(void);

#endif
