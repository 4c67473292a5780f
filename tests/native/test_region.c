/* A region keeps its addresses, whatever becomes of what is mapped there. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "region.h"
#include "support.h"

static size_t page;

static void grows_and_shrinks_in_place(void)
{
    struct shm_region region;
    map_region(&region, new_file(4), 2, MAP_SHARED);
    uint8_t *base = region.base;
    base[0] = 1;
    base[page] = 2;
    CHECK(shm_region_resize(&region, 4 * page) == SHM_OK);
    CHECK(shm_active_regions() == 1 && shm_active_bytes() == 4 * page);
    base[3 * page] = 4;
    CHECK(shm_region_resize(&region, 1) == SHM_OK);
    CHECK(region.base == base && base[0] == 1);
    CHECK(shm_active_bytes() == page);
    CHECK(base[page] == 0 && base[3 * page] == 0); /* an old pointer reads zeros */
    base[page] = 9;                                /* and what it writes goes nowhere */
    CHECK(shm_region_resize(&region, 4 * page) == SHM_OK);
    CHECK(base[0] == 1 && base[page] == 2 && base[3 * page] == 4);
    CHECK(shm_region_resize(&region, 0) == SHM_OK);
    CHECK(shm_active_regions() == 0 && base[0] == 0);
    CHECK(shm_region_resize(&region, page) == SHM_OK);
    CHECK(shm_active_regions() == 1 && base[0] == 1);
    done_with(&region);
}

static void starts_where_it_was_told(void)
{
    int fd = new_file(3);
    struct shm_region region;
    struct shm_region_spec spec = region_spec(fd, 1, MAP_SHARED);
    CHECK(pwrite(fd, "second", 7, (off_t)page) == 7);
    CHECK(pwrite(fd, "third", 6, (off_t)(2 * page)) == 6);
    spec.offset = page;
    spec.file_reads = true;
    char got[7];
    size_t done;
    CHECK(shm_region_map(&region, &spec) == SHM_OK);
    CHECK(strcmp((char *)region.base, "second") == 0);
    CHECK(shm_region_read(&region, got, 0, 7, &done) == SHM_OK);
    CHECK(done == 7 && strcmp(got, "second") == 0);
    CHECK(shm_region_resize(&region, 2 * page) == SHM_OK);
    CHECK(strcmp((char *)region.base + page, "third") == 0);
    done_with(&region);
}

static void remaps_and_empties(void)
{
    struct shm_region region;
    map_region(&region, new_file(4), 4, MAP_SHARED);
    region.base[0] = 1;
    region.base[3 * page] = 4;
    struct shm_pages first = {region.base, page};
    CHECK(shm_region_protect(&region, first, PROT_READ) == SHM_OK);
    CHECK(region.mixed);
    CHECK(shm_region_remap(&region, 2 * page) == SHM_OK);
    CHECK(!region.mixed);
    CHECK(region.base[0] == 1 && region.base[3 * page] == 0);
    CHECK(shm_active_bytes() == 2 * page);
    CHECK(shm_region_remap(&region, 4 * page) == SHM_OK);
    CHECK(region.base[3 * page] == 4);
    CHECK(shm_region_empty(&region) == SHM_OK);
    CHECK(region.base[0] == 0 && region.base[3 * page] == 0 && region.base[7 * page] == 0);
    CHECK(shm_active_regions() == 0 && shm_active_bytes() == 0);
    done_with(&region);
}

static void a_failed_remap_leaves_the_addresses_ours(void)
{
    struct shm_region region;
    map_region(&region, new_file(2), 2, MAP_SHARED);
    int fd = region.spec.fd;
    region.base[0] = 1;
    region.spec.fd = 1 << 20;
    CHECK(shm_region_remap(&region, 2 * page) == SHM_E_OS && errno == EBADF);
    CHECK(shm_region_resize(&region, 4 * page) == SHM_E_OS && errno == EBADF);
    region.spec.fd = fd;
    CHECK(region.spec.length == 2 * page && region.base[0] == 1);
    done_with(&region);
}

static void an_address_is_never_taken_from_another(void)
{
    struct shm_region first, second;
    map_region(&first, new_file(2), 2, MAP_SHARED);
    first.base[0] = 1;
    struct shm_region_spec spec = region_spec(-1, 2, MAP_PRIVATE);
    spec.address = first.base + 3 * page; /* the last of its reserve */
    CHECK(shm_region_map(&second, &spec) == SHM_E_OS && errno == EEXIST);
    CHECK(second.base == NULL);
    spec.address = first.base;
    CHECK(shm_region_map(&second, &spec) == SHM_E_OS && errno == EEXIST);
    CHECK(first.base[0] == 1);
    done_with(&first);
    CHECK(shm_region_map(&second, &spec) == SHM_OK);
    CHECK(second.base == spec.address && second.base[0] == 0);
    done_with(&second);
}

static void a_failure_leaves_nothing(void)
{
    struct shm_region region;
    struct shm_region_spec spec = region_spec(1 << 20, 1, MAP_SHARED);
    CHECK(shm_region_map(&region, &spec) == SHM_E_OS && errno == EBADF);
    CHECK(region.base == NULL);
    spec = region_spec(-1, 1, MAP_PRIVATE);
    spec.reserve = SIZE_MAX - 1; /* does not fit in whole pages */
    CHECK(shm_region_map(&region, &spec) == SHM_E_OS && errno == ENOMEM);
    spec.page = 512 * page;
    CHECK(shm_region_map(&region, &spec) == SHM_E_OS && errno == ENOMEM);
    CHECK(shm_active_regions() == 0 && shm_active_bytes() == 0);
}

static void large_pages_are_aligned_by_hand(void)
{
    struct shm_region region;
    struct shm_region_spec spec = region_spec(-1, 1, MAP_PRIVATE);
    spec.page = 512 * page;
    for (int i = 0; i < 8; i++) {
        CHECK(shm_region_map(&region, &spec) == SHM_OK);
        CHECK((uintptr_t)region.base % spec.page == 0);
        CHECK(shm_active_bytes() == spec.page);
        region.base[spec.page - 1] = 1;
        done_with(&region);
    }
}

/* Grown by the parent, found by a child that was made before. */
static void shared_without_a_file(void)
{
    struct shm_region region;
    map_region(&region, -1, 1, MAP_SHARED);
    int pid = fork();
    if (pid == 0) {
        region.base[page] = 5;
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
    CHECK(shm_region_resize(&region, 2 * page) == SHM_OK);
    CHECK(region.base[page] == 5);
    done_with(&region);
}

static void pages_are_rounded(void)
{
    struct shm_region region;
    map_region(&region, new_file(4), 4, MAP_SHARED);
    CHECK(shm_region_resize(&region, 3 * page + 10) == SHM_OK);
    uint8_t *base = region.base;
    static const struct {
        size_t offset, length; /* in quarters of a page */
        size_t out_start, out_length, in_start, in_length;
    } cases[] = {
        {0, 4, 0, 1, 0, 1}, {1, 1, 0, 1, 1, 0},  {1, 4, 0, 2, 1, 0}, {1, 8, 0, 3, 1, 1},
        {0, 8, 0, 2, 0, 2}, {4, 8, 1, 2, 1, 2},  {2, 0, 0, 0, 1, 0}, {4, 0, 1, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t offset = cases[i].offset * page / 4, length = cases[i].length * page / 4;
        struct shm_pages out = shm_region_pages(&region, offset, length, false);
        struct shm_pages in = shm_region_pages(&region, offset, length, true);
        CHECK(out.start == base + cases[i].out_start * page);
        CHECK(out.length == cases[i].out_length * page);
        CHECK(in.length == cases[i].in_length * page);
        CHECK(in.start == base + cases[i].in_start * page);
    }
    /* The last page is filled by what there is of it. */
    struct shm_pages all = shm_region_pages(&region, 0, region.spec.length, true);
    CHECK(all.start == base && all.length == 4 * page);
    done_with(&region);
}

static void borrows_and_gives_back(void)
{
    struct shm_region owner, guest;
    map_region(&owner, new_file(2), 2, MAP_SHARED);
    owner.base[page] = 6;
    struct shm_region_spec spec = owner.spec;
    spec.length = page;
    CHECK(shm_region_borrow(&guest, owner.base + page, &spec) == SHM_OK);
    CHECK(shm_active_regions() == 1 && shm_active_bytes() == 2 * page);
    CHECK(guest.base[0] == 6);
    shm_region_unmap(&guest);
    CHECK(owner.base[page] == 6);
    done_with(&owner);
}

int main(void)
{
    alarm(120);
    page = shm_page_size();
    grows_and_shrinks_in_place();
    starts_where_it_was_told();
    remaps_and_empties();
    a_failed_remap_leaves_the_addresses_ours();
    an_address_is_never_taken_from_another();
    a_failure_leaves_nothing();
    large_pages_are_aligned_by_hand();
    shared_without_a_file();
    pages_are_rounded();
    borrows_and_gives_back();
    return 0;
}
