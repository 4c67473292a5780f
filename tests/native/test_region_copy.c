/* Copies answer where plain loads and stores would end in a signal: nobody handles one here. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "region.h"
#include "support.h"

static size_t page;
static uint8_t got[4 * 65536];

static int read_at(const struct shm_region *region, size_t offset, size_t length, size_t *done)
{
    memset(got, 0xee, sizeof got);
    return shm_region_read(region, got, offset, length, done);
}

static void forbidden_pages_answer(bool stable, bool file_reads)
{
    struct shm_region region;
    struct shm_region_spec spec = region_spec(new_file(4), 4, MAP_SHARED);
    size_t done;
    spec.stable = stable;
    spec.file_reads = file_reads;
    CHECK(shm_region_map(&region, &spec) == SHM_OK);
    memset(region.base, 7, 4 * page);
    struct shm_pages third = shm_region_pages(&region, 2 * page + 1, 1, false);
    CHECK(shm_region_protect(&region, third, PROT_NONE) == SHM_OK);
    CHECK(region.mixed && !shm_region_is_direct(&region));
    CHECK(read_at(&region, 10, page, &done) == SHM_OK && done == page && got[page - 1] == 7);
    CHECK(read_at(&region, page, 2 * page, &done) == SHM_FAULT && done == page);
    CHECK(shm_region_write(&region, page, got, 2 * page, &done) == SHM_FAULT && done == page);
    CHECK(shm_region_write(&region, 3 * page, got, page, &done) == SHM_OK && done == page);
    struct shm_pages all = shm_region_pages(&region, 0, 4 * page, false);
    CHECK(shm_region_protect(&region, all, PROT_READ) == SHM_OK);
    CHECK(!region.mixed && shm_region_is_direct(&region) == stable);
    CHECK(read_at(&region, 0, 4 * page, &done) == SHM_OK && done == 4 * page && got[0] == 7);
    CHECK(shm_region_write(&region, 0, got, 1, &done) == SHM_FAULT && done == 0);
    CHECK(shm_region_protect(&region, all, PROT_NONE) == SHM_OK);
    CHECK(read_at(&region, 0, 1, &done) == SHM_FAULT && done == 0);
    CHECK(shm_region_protect(&region, all, PROT_READ | PROT_WRITE) == SHM_OK);
    CHECK(shm_region_write(&region, 0, got, page, &done) == SHM_OK && done == page);
    done_with(&region);
}

static void a_truncated_file_answers(int sharing, bool file_reads)
{
    struct shm_region region;
    struct shm_region_spec spec = region_spec(new_file(4), 4, sharing);
    size_t done;
    spec.file_reads = file_reads;
    CHECK(shm_region_map(&region, &spec) == SHM_OK);
    memset(got, 3, sizeof got);
    CHECK(shm_region_write(&region, 0, got, 4 * page, &done) == SHM_OK && done == 4 * page);
    CHECK(read_at(&region, 1, 4 * page - 1, &done) == SHM_OK && got[4 * page - 2] == 3);
    CHECK(ftruncate(spec.fd, (off_t)page) == 0);
    if (sharing == MAP_PRIVATE) /* truncation takes the private copies as well */
        CHECK(pwrite(spec.fd, "x", 1, 5) == 1);
    CHECK(read_at(&region, 0, page, &done) == SHM_OK && done == page && got[0] == 3);
    CHECK(read_at(&region, 1, 2 * page, &done) == SHM_FAULT && done == page - 1 && got[1] == 3);
    CHECK(read_at(&region, 2 * page, 1, &done) == SHM_FAULT && done == 0);
    CHECK(shm_region_write(&region, 1, got, 2 * page, &done) == SHM_FAULT && done == page - 1);
    CHECK(shm_region_write(&region, 3 * page, got, 1, &done) == SHM_FAULT && done == 0);
    CHECK(ftruncate(spec.fd, (off_t)(4 * page)) == 0);
    CHECK(read_at(&region, 3 * page, page, &done) == SHM_OK);
    CHECK(got[0] == 0 && got[page - 1] == 0);
    done_with(&region);
}

/* As mmap.move does it, within the region. */
static void moves_over_itself(void)
{
    struct shm_region region;
    struct shm_region_spec spec = region_spec(-1, 1, MAP_PRIVATE);
    size_t done;
    spec.stable = true;
    CHECK(shm_region_map(&region, &spec) == SHM_OK);
    for (size_t i = 0; i < page; i++)
        region.base[i] = (uint8_t)(i % 251);
    CHECK(shm_region_write(&region, 5, region.base, page - 5, &done) == SHM_OK);
    for (size_t i = 5; i < page; i++)
        CHECK(region.base[i] == (i - 5) % 251);
    done_with(&region);
}

static void copies_without_a_file(int sharing)
{
    struct shm_region region;
    size_t done;
    map_region(&region, -1, 2, sharing);
    CHECK(shm_region_write(&region, page - 2, "abcd", 4, &done) == SHM_OK && done == 4);
    CHECK(read_at(&region, page - 2, 4, &done) == SHM_OK && memcmp(got, "abcd", 4) == 0);
    CHECK(mprotect(region.base + page, page, PROT_NONE) == 0); /* behind our back */
    CHECK(read_at(&region, page - 2, 4, &done) == SHM_FAULT && done == 2);
    CHECK(shm_region_write(&region, page, "ab", 2, &done) == SHM_FAULT && done == 0);
    CHECK(read_at(&region, 0, 0, &done) == SHM_OK && done == 0);
    done_with(&region);
}

/* As in a sandbox: from here on this process may not ask the kernel to copy. */
static void forbid_kernel_copies(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof steps / sizeof *steps, steps};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        exit(0); /* a kernel without filters */
}

static void copies_without_the_kernel(void)
{
    forbid_kernel_copies();
    for (int i = 0; i < 4; i++)
        forbidden_pages_answer(i & 1, i & 2);
    a_truncated_file_answers(MAP_SHARED, false);
    a_truncated_file_answers(MAP_PRIVATE, false);
    copies_without_a_file(MAP_SHARED);
}

int main(void)
{
    alarm(120);
    page = shm_page_size();
    CHECK(4 * page <= sizeof got);
    for (int i = 0; i < 4; i++)
        forbidden_pages_answer(i & 1, i & 2);
    a_truncated_file_answers(MAP_SHARED, true);
    a_truncated_file_answers(MAP_SHARED, false);
    a_truncated_file_answers(MAP_PRIVATE, false);
    moves_over_itself();
    copies_without_a_file(MAP_PRIVATE);
    copies_without_a_file(MAP_SHARED);
    ends_well(copies_without_the_kernel);
    return 0;
}
