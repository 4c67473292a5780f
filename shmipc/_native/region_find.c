/* Searching a region: in place where that cannot fault, else through a window that is copied. */
#define _GNU_SOURCE
#include "region.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW ((size_t)1 << 20)

static const uint8_t *find_first(const uint8_t *in, size_t length, const void *what, size_t size)
{
    return memmem(in, length, what, size);
}

static const uint8_t *find_last(const uint8_t *in, size_t length, const void *what, size_t size)
{
    if (size == 0 || size > length)
        return size ? NULL : in + length;
    size_t left = length - size + 1; /* places where it may begin */
    const uint8_t *at;
    while ((at = memrchr(in, *(const uint8_t *)what, left)) && memcmp(at, what, size) != 0)
        left = (size_t)(at - in);
    return at;
}

static int find_in_place(const struct shm_region *region, const struct shm_search *search,
                         size_t *found)
{
    uint64_t fault;
    const uint8_t *in = region->base + search->offset;
    const uint8_t *at = (search->last ? find_last : find_first)(in, search->length, search->what,
                                                               search->size);
    *found = at ? (size_t)(at - in) : search->length + 1;
    return shm_region_has_fault(region, &fault) ? SHM_FAULT : SHM_OK;
}

/* Windows overlap by what is one byte shorter than the thing, so none can hide between two. */
static int find_in_copies(const struct shm_region *region, const struct shm_search *search,
                          uint8_t *window, size_t room, size_t *found)
{
    size_t overlap = search->size ? search->size - 1 : 0;
    size_t begin = 0, end = search->length, done;
    for (;;) {
        size_t size = end - begin < room ? end - begin : room;
        size_t from = search->last ? end - size : begin;
        int status = shm_region_read(region, window, search->offset + from, size, &done);
        if (status != SHM_OK) { /* what stands before the gap is found all the same */
            const uint8_t *early =
                search->last ? NULL : find_first(window, done, search->what, search->size);
            *found = early ? from + (size_t)(early - window) : from + done;
            return early ? SHM_OK : status;
        }
        const uint8_t *at = (search->last ? find_last : find_first)(window, size, search->what,
                                                                   search->size);
        if (at || size == end - begin) {
            *found = at ? from + (size_t)(at - window) : search->length + 1;
            return SHM_OK;
        }
        if (search->last)
            end = from + overlap;
        else
            begin += size - overlap;
    }
}

int shm_region_find(const struct shm_region *region, const struct shm_search *search,
                    size_t *found)
{
    *found = search->length + 1;
    if (search->size > search->length)
        return SHM_OK;
    if (shm_region_is_direct(region))
        return find_in_place(region, search, found);
    size_t room = search->size < WINDOW / 2 ? WINDOW : 2 * search->size;
    uint8_t *window = malloc(room);
    if (!window)
        return SHM_E_OS;
    int status = find_in_copies(region, search, window, room, found);
    free(window);
    return status;
}
