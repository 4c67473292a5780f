/* Making, joining and leaving: no slot is lost, the door is free, and the last one out is known. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kill_driver.h"
#include "mapping.h"

#define SLOTS 4

static void make_small(struct kill_run *run, uint32_t flags, const char *path)
{
    struct shm_spec spec = {.kind = SHM_KIND_SEGMENT, .slot_count = SLOTS, .flags = flags};
    kill_make_segment(run, &spec, path);
}

static void small(struct kill_run *run) { make_small(run, 0, NULL); }

static void leave(struct shm_segment *segment, bool is_last)
{
    bool last;
    shm_leave(segment, NULL, &last);
    CHECK(last == is_last);
}

/* Where the victim is the only one. */
static void small_and_left(struct kill_run *run)
{
    small(run);
    leave(&run->segment, true);
}

/* As many as there are slots find one, under identities of their own, and no more. */
static void all_slots_can_be_taken(struct kill_run *run)
{
    struct shm_segment others[SLOTS], *mine = &run->segment;
    CHECK(shm_join(mine, false) == SHM_OK);
    for (int i = 1; i < SLOTS; i++) {
        join_beside(&others[i], mine);
        CHECK(shm_me(&others[i]) != run->dead && shm_alive(mine, shm_me(&others[i])));
    }
    others[0] = *mine;
    others[0].self = shm_map_private_to_process();
    CHECK(shm_join(&others[0], false) == SHM_NO_SLOT);
    for (int i = 0; i < SLOTS; i++) {
        if (i > 0)
            leave(&others[i], false);
        shm_unmap_private(others[i].self);
    }
}

/* The survivor is alone, and the file counts as closed when he has left, too. */
static void goes_on(struct kill_run *run)
{
    struct shm_segment *segment = &run->segment;
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t identity = load_relaxed(&segment->slots[i].identity);
        CHECK(shm_alive(segment, identity) == (shm_me(segment) && identity == shm_me(segment)));
    }
    all_slots_can_be_taken(run);
    CHECK(load_relaxed(&segment->header->use) == SHM_USE_OPEN);
    leave(segment, true);
    CHECK(load_relaxed(&segment->header->use) == SHM_USE_CLEAN);
}

/* --- creating -------------------------------------------------------------------------------- */

static int new_segment;

static void make_empty_file(struct kill_run *run)
{
    struct shm_spec spec = {.kind = SHM_KIND_SEGMENT, .slot_count = SLOTS};
    small(run);
    new_segment = new_file(0);
    CHECK(ftruncate(new_segment, (off_t)shm_file_size(&spec)) == 0);
    void *header = mmap(NULL, sizeof(struct shm_header), PROT_READ, MAP_SHARED, new_segment, 0);
    CHECK(header != MAP_FAILED);
    kill_watch(run, header, sizeof(struct shm_header));
}

static void format(struct kill_run *run)
{
    (void)run;
    struct shm_spec spec = {.kind = SHM_KIND_SEGMENT, .slot_count = SLOTS};
    CHECK(shm_format(new_segment, &spec) == SHM_OK);
}

static void is_whole_or_nothing(struct kill_run *run)
{
    struct shm_segment made;
    int status = shm_segment_open(&made, new_segment);
    CHECK(status == SHM_OK || status == SHM_BAD_MAGIC);
    CHECK(status == SHM_OK || run->point.kind != KILL_AT_END);
    CHECK(status != SHM_OK || run->point.kind != KILL_AT_BEGIN);
    if (status == SHM_OK) {
        CHECK(shm_join(&made, false) == SHM_OK);
        leave(&made, true);
        shm_segment_close(&made);
    }
    munmap((void *)run->watched[1].at, run->watched[1].size);
    close(new_segment);
    goes_on(run);
}

/* --- joining --------------------------------------------------------------------------------- */

static void attach(struct kill_run *run)
{
    struct shm_segment mine;
    int status;
    CHECK(shm_segment_open(&mine, run->segment.fd) == SHM_OK);
    while ((status = shm_join(&mine, false)) == SHM_LOCKED)
        usleep(1000);
    CHECK(status == SHM_OK);
    store_release(&run->notes->victim, shm_me(&mine));
}

static void stand_in_the_door(struct kill_run *run)
{
    CHECK(shm_lock_door(run->segment.fd) >= 0);
    kill_ready(run, 0);
    pause();
}

static void free_the_door(struct kill_run *run) { kill_bystander_dies(run, 0); }

static void after_the_door(struct kill_run *run)
{
    free_the_door(run);
    goes_on(run);
}

static void of_another_boot(struct kill_run *run)
{
    small_and_left(run);
    run->segment.header->boot[0] ^= 1;
}

static void left_open_at_another_boot(struct kill_run *run)
{
    of_another_boot(run);
    store_relaxed(&run->segment.header->use, SHM_USE_OPEN);
}

static void adopt(struct kill_run *run) { CHECK(shm_adopt(&run->segment) == SHM_OK); }

static void is_adopted_or_not(struct kill_run *run)
{
    int status = shm_join(&run->segment, false);
    CHECK(status == SHM_OK || status == SHM_OTHER_BOOT);
    CHECK(status == SHM_OK || run->point.kind != KILL_AT_END);
    if (status == SHM_OTHER_BOOT)
        CHECK(shm_adopt(&run->segment) == SHM_OK);
    goes_on(run);
}

/* --- leaving --------------------------------------------------------------------------------- */

static void leave_here(struct kill_run *run)
{
    bool last;
    shm_leave(&run->segment, run->path, &last);
}

static void with_a_name(struct kill_run *run)
{
    make_small(run, SHM_UNLINK_LAST, run->path);
    leave(&run->segment, true); /* without the path, so the name stays */
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* The name went with the victim, or goes with the next one who is the last. */
static void the_name_goes(struct kill_run *run)
{
    struct shm_segment *segment = &run->segment;
    bool last, there = is_there(run->path);
    CHECK(there || run->point.kind != KILL_AT_BEGIN);
    CHECK(!there || run->point.kind != KILL_AT_END);
    CHECK(shm_join(segment, true) == (there ? SHM_OK : SHM_GONE));
    shm_leave(segment, run->path, &last);
    CHECK(last == there && !is_there(run->path));
    goes_on(run);
}

#define SEGMENT .primitive = "segment"
#define FREE_SLOT "its slot is free, the door is open"

const struct kill_scenario kill_segment[] = {
    {SEGMENT,
     .operation = "format a new file",
     .who_dies = "the creator",
     .others_see = "no header, or a whole one",
     .set_up = make_empty_file,
     .stranger = true,
     .victim = format,
     .check = is_whole_or_nothing},
    {SEGMENT,
     .operation = "attach",
     .who_dies = "who attaches",
     .others_see = FREE_SLOT,
     .set_up = small,
     .stranger = true,
     .victim = attach,
     .check = goes_on},
    {SEGMENT,
     .operation = "attach, another in the door",
     .who_dies = "who attaches, and the other",
     .others_see = FREE_SLOT,
     .set_up = small,
     .bystanders = {stand_in_the_door},
     .stranger = true,
     .victim = attach,
     .other_side = free_the_door,
     .check = after_the_door},
    {SEGMENT,
     .operation = "attach, closed before another boot",
     .who_dies = "who attaches",
     .others_see = FREE_SLOT,
     .set_up = of_another_boot,
     .stranger = true,
     .victim = attach,
     .check = goes_on},
    {SEGMENT,
     .operation = "recover, open at another boot",
     .who_dies = "who recovers",
     .others_see = "of the other boot still, or closed in this one",
     .set_up = left_open_at_another_boot,
     .stranger = true,
     .victim = adopt,
     .check = is_adopted_or_not},
    {SEGMENT,
     .operation = "leave",
     .who_dies = "who leaves",
     .others_see = FREE_SLOT,
     .set_up = small,
     .victim = leave_here,
     .check = goes_on},
    {SEGMENT,
     .operation = "leave, another in the door",
     .who_dies = "who leaves, and the other",
     .others_see = FREE_SLOT,
     .set_up = small,
     .bystanders = {stand_in_the_door},
     .victim = leave_here,
     .other_side = free_the_door,
     .check = after_the_door},
    {SEGMENT,
     .operation = "leave as the last",
     .who_dies = "who leaves",
     .others_see = FREE_SLOT "; the next last one closes it",
     .set_up = small_and_left,
     .victim = leave_here,
     .check = goes_on},
    {SEGMENT,
     .operation = "leave as the last, with the name",
     .who_dies = "who leaves",
     .others_see = "the name is gone, or goes with the next last one",
     .set_up = with_a_name,
     .victim = leave_here,
     .check = the_name_goes},
    {0},
};
