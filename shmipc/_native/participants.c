#define _GNU_SOURCE
#include "participants.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mapping.h"
#include "process.h"
#include "waiting.h"

#define DOOR 0
#define LEAVE_ATTEMPTS 200 /* of a millisecond; then it is left without the door */

static struct flock byte_lock(off_t byte, short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

static bool lock_byte(int fd, off_t byte)
{
    struct flock lock = byte_lock(byte, F_WRLCK);
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static void unlock_byte(int fd, off_t byte)
{
    struct flock lock = byte_lock(byte, F_UNLCK);
    fcntl(fd, F_OFD_SETLK, &lock);
}

/* A lock seen through `fd`, which holds none itself: the answer is about the others. */
static bool is_byte_locked(int fd, off_t byte)
{
    struct flock lock = byte_lock(byte, F_WRLCK);
    return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static off_t slot_byte(const struct shm_segment *segment, uint32_t slot)
{
    return (off_t)(segment->facts.slots_offset + (uint64_t)slot * sizeof(struct shm_slot));
}

/* A new open file description of the same file: duplicates of `fd` would share its locks. */
static int reopen(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

int shm_lock_door(int fd)
{
    int door = reopen(fd);
    if (door >= 0 && !lock_byte(door, DOOR)) {
        int error = errno == EACCES ? EAGAIN : errno;
        close(door);
        errno = error;
        return -1;
    }
    return door;
}

void shm_unlock_door(int door)
{
    unlock_byte(door, DOOR); /* a child forked meanwhile may have the description too */
    close(door);
}

/* Programs close descriptors by number, ours too, and the number then means another file. */
static bool is_our_file(const struct shm_segment *segment, int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 && file.st_dev == segment->device &&
           file.st_ino == segment->inode;
}

/* The part of joining that decides whether we may. */
static int check_entry(struct shm_segment *segment, int door, bool linked)
{
    struct shm_header *header = segment->header;
    struct stat file;
    uint8_t boot[16];
    if (!is_our_file(segment, door) || fstat(door, &file) != 0) {
        errno = EBADF;
        return SHM_E_OS;
    }
    if (linked && file.st_nlink == 0)
        return SHM_GONE;
    shm_boot_identity(boot);
    if (memcmp(header->boot, boot, sizeof boot) == 0)
        return SHM_OK;
    if (load_relaxed(&header->use) == SHM_USE_OPEN)
        return SHM_OTHER_BOOT;
    memcpy(header->boot, boot, sizeof boot);
    return SHM_OK;
}

/* Next-fit, so that what a dead process left in its slot can be read for a while. */
static bool take_slot(struct shm_segment *segment, int fd, uint32_t *slot)
{
    uint32_t count = segment->facts.slot_count;
    uint32_t first = load_relaxed(&segment->header->next_slot);
    for (uint32_t i = 0; i < count; i++) {
        *slot = (first + i) % count;
        if (lock_byte(fd, slot_byte(segment, *slot))) {
            store_relaxed(&segment->header->next_slot, (*slot + 1) % count);
            return true;
        }
    }
    return false;
}

static uint32_t next_identity(uint32_t previous, uint32_t slot)
{
    uint32_t generation = ((previous & SHM_IDENTITY) >> SHM_SLOT_BITS) + 1;
    generation &= SHM_IDENTITY >> SHM_SLOT_BITS;
    return (generation ? generation : 1) << SHM_SLOT_BITS | slot;
}

static uint32_t write_slot(struct shm_slot *slot, uint32_t index, const struct shm_process *me)
{
    slot->pid = me->pid;
    slot->pid_namespace = me->pid_namespace;
    slot->start_time = me->start_time;
    slot->joined = shm_wall_clock();
    memcpy(slot->command, me->command, sizeof slot->command);
    uint32_t identity = next_identity(load_relaxed(&slot->identity), index);
    store_release(&slot->identity, identity);
    return identity;
}

/* From taking the slot to writing the identity, who had it before and died seems to live; so what
 * takes long comes first. */
static int enter(struct shm_segment *segment, int door, bool linked)
{
    uint32_t slot;
    struct shm_process me;
    int status = check_entry(segment, door, linked);
    if (status != SHM_OK)
        return status;
    shm_describe_process(&me);
    if (!take_slot(segment, door, &slot))
        return SHM_NO_SLOT;
    void *hold = shm_hold(door);
    if (!hold)
        return SHM_E_OS;
    store_relaxed(&segment->header->use, SHM_USE_OPEN);
    segment->self->hold = hold;
    store_relaxed(&segment->self->identity, write_slot(&segment->slots[slot], slot, &me));
    return SHM_OK;
}

int shm_join(struct shm_segment *segment, bool linked)
{
    if (shm_me(segment))
        return SHM_OK;
    int door = shm_lock_door(segment->fd);
    if (door < 0)
        return errno == EAGAIN ? SHM_LOCKED : SHM_E_OS;
    int status = enter(segment, door, linked), error = errno;
    shm_unlock_door(door); /* the description, and the slot's lock on it, live on in the hold */
    errno = error;
    return status;
}

static bool is_anybody_left(const struct shm_segment *segment)
{
    for (uint32_t slot = 0; slot < segment->facts.slot_count; slot++) {
        uint32_t identity = load_relaxed(&segment->slots[slot].identity);
        if (identity && !(identity & SHM_SLOT_FREE) && shm_slot_held(segment, slot))
            return true;
    }
    return false;
}

static void unlink_ours(const struct shm_segment *segment, const char *path)
{
    struct stat file;
    if (stat(path, &file) == 0 && file.st_dev == segment->device &&
        file.st_ino == segment->inode)
        unlink(path);
}

static int wait_for_door(int fd)
{
    struct timespec millisecond = {.tv_nsec = 1000000};
    for (int i = 0; i < LEAVE_ATTEMPTS; i++) {
        int door = shm_lock_door(fd);
        if (door >= 0 || errno != EAGAIN)
            return door;
        nanosleep(&millisecond, NULL);
    }
    return -1;
}

void shm_leave(struct shm_segment *segment, const char *path, bool *last)
{
    *last = false;
    uint32_t me = shm_me(segment);
    if (!me)
        return;
    int door = is_our_file(segment, segment->fd) ? wait_for_door(segment->fd) : -1;
    store_release(&segment->slots[shm_slot_of(me)].identity, me | SHM_SLOT_FREE);
    store_relaxed(&segment->self->identity, 0);
    shm_release_hold(segment->self->hold);
    if (door < 0)
        return; /* nobody can tell who was the last; the next to join will find a slot */
    *last = !is_anybody_left(segment);
    if (*last) {
        store_relaxed(&segment->header->use, SHM_USE_CLEAN);
        if (path && segment->facts.flags & SHM_UNLINK_LAST)
            unlink_ours(segment, path);
    }
    shm_unlock_door(door);
}

/* Only where our descriptor was closed behind our back, and the kernel's locks cannot be asked:
 * within one pid namespace a process that is not there, or began at another time, is dead. */
static bool may_run(const struct shm_slot *slot)
{
    struct shm_process me;
    shm_describe_process(&me);
    return slot->pid_namespace != me.pid_namespace ||
           shm_process_runs(slot->pid, slot->start_time);
}

bool shm_slot_held(const struct shm_segment *segment, uint32_t slot)
{
    if (!is_our_file(segment, segment->fd))
        return may_run(&segment->slots[slot]);
    return is_byte_locked(segment->fd, slot_byte(segment, slot));
}

bool shm_alive(const struct shm_segment *segment, uint32_t identity)
{
    uint32_t slot = shm_slot_of(identity);
    if (identity == 0 || slot >= segment->facts.slot_count)
        return false;
    if (identity == shm_me(segment))
        return true;
    return load_acquire(&segment->slots[slot].identity) == identity &&
           shm_slot_held(segment, slot);
}

int shm_adopt(struct shm_segment *segment)
{
    int door = wait_for_door(segment->fd);
    if (door < 0)
        return SHM_E_OS;
    bool used = is_anybody_left(segment);
    if (!used) {
        shm_boot_identity(segment->header->boot);
        store_relaxed(&segment->header->use, SHM_USE_CLEAN);
    }
    shm_unlock_door(door);
    return used ? SHM_BUSY : SHM_OK;
}
