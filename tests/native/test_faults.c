/* The guard: memory that is gone reads as zeros, is marked, and costs one mapping. */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "region.h"
#include "support.h"

#define THREADS 4
#define ROUNDS 50
#define MANY 2000

static size_t page;

/* How many the region has; a sanitizer adds others elsewhere. */
static int mappings(const struct shm_region *region)
{
    int count = 0;
    char line[1024];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        uint64_t start = strtoull(line, NULL, 16) - (uintptr_t)region->base;
        count += start < region->spec.reserve;
    }
    fclose(maps);
    return count;
}

/* The compiler may not know what a plain load or store does here; the thread sanitizer takes
 * the zeros for a write by the thread whose handler has put them. */
SHM_RACES_ARE_CHECKED static uint8_t load(const struct shm_region *region, size_t offset)
{
    return *(volatile uint8_t *)(region->base + offset);
}

static void store(const struct shm_region *region, size_t offset, uint8_t value)
{
    *(volatile uint8_t *)(region->base + offset) = value;
}

static bool is_marked(const struct shm_region *region, uint64_t expected)
{
    uint64_t offset;
    return shm_region_has_fault(region, &offset) && offset == expected;
}

static bool is_whole(const struct shm_region *region)
{
    uint64_t offset;
    return !shm_region_has_fault(region, &offset);
}

static void truncate_to(const struct shm_region *region, size_t pages)
{
    CHECK(ftruncate(region->spec.fd, (off_t)(pages * page)) == 0);
}

static void map_guarded(struct shm_region *region, size_t pages, int sharing)
{
    CHECK(shm_guard_faults() == 0);
    map_region(region, new_file(pages), pages, sharing);
    CHECK(shm_region_is_direct(region) && is_whole(region));
}

/* All faults together add two mappings: what is left of the file, and the zeros. */
static void lost_pages_read_as_zeros(void)
{
    struct shm_region region;
    map_guarded(&region, 300, MAP_SHARED);
    memset(region.base, 1, 300 * page);
    int before = mappings(&region);
    truncate_to(&region, 2);
    CHECK(load(&region, 5 * page + 7) == 0);
    CHECK(is_marked(&region, 5 * page + 7));
    for (size_t i = 299; i >= 2; i--)
        CHECK(load(&region, i * page) == 0);
    CHECK(mappings(&region) <= before + 2);
    CHECK(is_marked(&region, 5 * page + 7)); /* the first one counts */
    CHECK(load(&region, 0) == 1 && load(&region, 2 * page - 1) == 1);
    done_with(&region);
}

static void stores_go_on_and_a_remap_forgets(void)
{
    struct shm_region region;
    map_guarded(&region, 8, MAP_SHARED);
    memset(region.base, 1, 8 * page);
    truncate_to(&region, 2);
    store(&region, 4 * page + 3, 9);
    CHECK(load(&region, 4 * page + 3) == 9 && load(&region, 7 * page) == 0);
    CHECK(is_marked(&region, 4 * page + 3));
    truncate_to(&region, 8);
    CHECK(is_marked(&region, 4 * page + 3));
    CHECK(shm_region_remap(&region, 8 * page) == SHM_OK);
    CHECK(is_whole(&region));
    CHECK(load(&region, 0) == 1 && load(&region, 4 * page + 3) == 0);
    store(&region, 4 * page, 5);
    CHECK(is_whole(&region));
    truncate_to(&region, 0);
    CHECK(load(&region, 0) == 0 && is_marked(&region, 0));
    done_with(&region);
}

static void copies_tell(int sharing)
{
    struct shm_region region;
    uint8_t got[16];
    size_t done;
    map_guarded(&region, 4, sharing);
    CHECK(shm_region_write(&region, 3 * page, "here", 5, &done) == SHM_OK && done == 5);
    CHECK(shm_region_read(&region, got, 3 * page, 5, &done) == SHM_OK);
    CHECK(memcmp(got, "here", 5) == 0);
    truncate_to(&region, 1);
    CHECK(shm_region_read(&region, got, page - 4, 16, &done) == SHM_FAULT);
    uint64_t offset; /* a copy need not begin at its first byte */
    CHECK(shm_region_has_fault(&region, &offset) && offset / page == 1);
    CHECK(shm_region_write(&region, 0, "here", 5, &done) == SHM_FAULT); /* until remapped */
    truncate_to(&region, 4);
    CHECK(shm_region_remap(&region, 4 * page) == SHM_OK);
    CHECK(shm_region_write(&region, 0, "here", 5, &done) == SHM_OK);
    done_with(&region);
}

static void shared_copies_tell(void) { copies_tell(MAP_SHARED); }
static void private_copies_tell(void) { copies_tell(MAP_PRIVATE); }

static void follows_the_end(void)
{
    struct shm_region region;
    map_guarded(&region, 4, MAP_SHARED);
    CHECK(shm_region_resize(&region, 2 * page) == SHM_OK);
    CHECK(load(&region, 3 * page) == 0 && is_whole(&region));
    truncate_to(&region, 8);
    CHECK(shm_region_resize(&region, 8 * page) == SHM_OK);
    truncate_to(&region, 4);
    CHECK(load(&region, 7 * page) == 0 && is_marked(&region, 7 * page));
    done_with(&region);
}

/* A page that could not be written has none to write to afterwards. */
static void keeps_the_protection(void)
{
    struct shm_region region;
    map_guarded(&region, 4, MAP_SHARED);
    struct shm_pages all = shm_region_pages(&region, 0, 4 * page, false);
    CHECK(shm_region_protect(&region, all, PROT_READ) == SHM_OK);
    truncate_to(&region, 0);
    size_t done;
    CHECK(load(&region, page) == 0 && is_marked(&region, page));
    CHECK(shm_region_write(&region, page, "x", 1, &done) == SHM_FAULT && done == 0);
    done_with(&region);
}

/* Huge pages that nobody has reserved are not there when they are wanted, and are replaced as
 * whole ones only.  Where there are some, nothing is lost. */
static void huge_pages_are_replaced_whole(void)
{
    struct shm_region region;
    struct shm_region_spec spec = region_spec(-1, 1024, MAP_PRIVATE);
    spec.page = 512 * page;
    spec.flags |= MAP_HUGETLB | MAP_NORESERVE;
    CHECK(shm_guard_faults() == 0);
    if (shm_region_map(&region, &spec) != SHM_OK)
        return; /* they have another size here, or are not known at all */
    CHECK(load(&region, spec.page + 3 * page) == 0);
    CHECK(is_whole(&region) || is_marked(&region, spec.page + 3 * page));
    done_with(&region);
}

static struct shm_region under_threads;

static void *read_until_it_is_lost(void *first)
{
    size_t offset = *(size_t *)first * page;
    while (load(&under_threads, offset))
        ;
    return NULL;
}

static void threads_lose_it_together(void)
{
    pthread_t threads[THREADS];
    size_t first[THREADS];
    map_guarded(&under_threads, THREADS, MAP_SHARED);
    for (int round = 0; round < ROUNDS; round++) {
        memset(under_threads.base, 1, THREADS * page);
        for (size_t i = 0; i < THREADS; i++) {
            first[i] = i;
            CHECK(pthread_create(&threads[i], NULL, read_until_it_is_lost, &first[i]) == 0);
        }
        truncate_to(&under_threads, 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        CHECK(!is_whole(&under_threads));
        truncate_to(&under_threads, THREADS);
        CHECK(shm_region_remap(&under_threads, THREADS * page) == SHM_OK);
        CHECK(is_whole(&under_threads));
    }
    done_with(&under_threads);
}

static struct shm_region many[MANY];

static void finds_one_of_many(void)
{
    int fd = new_file(2);
    CHECK(shm_guard_faults() == 0);
    for (int i = 0; i < MANY; i++)
        map_region(&many[i], fd, 2, MAP_SHARED);
    CHECK(shm_active_regions() == MANY);
    CHECK(ftruncate(fd, 0) == 0);
    for (int i = 0; i < MANY; i += 3)
        CHECK(load(&many[i], page + (size_t)i) == 0);
    for (int i = 0; i < MANY; i++)
        CHECK(i % 3 ? is_whole(&many[i]) : is_marked(&many[i], page + (size_t)i));
    for (int i = 0; i < MANY; i += 2) /* others get their watches, without the marks */
        shm_region_unmap(&many[i]);
    for (int i = 0; i < MANY; i += 2)
        map_region(&many[i], fd, 1, MAP_SHARED);
    for (int i = 0; i < MANY; i += 2)
        CHECK(is_whole(&many[i]) && load(&many[i], 9) == 0 && is_marked(&many[i], 9));
    for (int i = 1; i < MANY; i++)
        shm_region_unmap(&many[i]);
    done_with(&many[0]);
}

/* A child has the handler, but cannot know what its libraries have put over it. */
static void a_child_has_the_handler(void)
{
    struct shm_region region;
    map_guarded(&region, 2, MAP_SHARED);
    store(&region, 0, 1);
    int pid = fork();
    if (pid == 0) {
        alarm(60);
        CHECK(!shm_faults_are_guarded() && shm_guard_is_on_top());
        CHECK(!shm_region_is_direct(&region));
        truncate_to(&region, 0);
        CHECK(load(&region, page) == 0 && is_marked(&region, page));
        CHECK(shm_guard_faults() == 0 && shm_faults_are_guarded());
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
    CHECK(shm_faults_are_guarded() && is_whole(&region)); /* the mark was the child's */
    CHECK(load(&region, 1) == 0 && is_marked(&region, 1));
    done_with(&region);
}

int main(void)
{
    alarm(240);
    page = shm_page_size();
    ends_well(lost_pages_read_as_zeros);
    ends_well(stores_go_on_and_a_remap_forgets);
    ends_well(shared_copies_tell);
    ends_well(private_copies_tell);
    ends_well(follows_the_end);
    ends_well(keeps_the_protection);
    ends_well(huge_pages_are_replaced_whole);
    ends_well(threads_lose_it_together);
    ends_well(finds_one_of_many);
    ends_well(a_child_has_the_handler);
    CHECK(!shm_guard_is_on_top()); /* all of that was in children */
    return 0;
}
