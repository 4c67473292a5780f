#define _GNU_SOURCE
#include "segment.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mapping.h"
#include "process.h"
#include "waiting.h"

static uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

/* FNV-1a: it is there against accidents; against malice there are the file's permissions. */
static uint32_t checksum(const struct shm_header *header)
{
    const uint8_t *bytes = (const uint8_t *)header;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < offsetof(struct shm_header, checksum); i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

static void place(struct shm_header *header, const struct shm_spec *spec)
{
    header->granule = SHM_GRANULE;
    header->slots_offset = sizeof(struct shm_header);
    header->slot_count = spec->slot_count;
    header->slot_size = sizeof(struct shm_slot);
    header->body_offset = header->slots_offset + spec->slot_count * sizeof(struct shm_slot);
    header->body_size = spec->body_size;
    header->data_offset = round_up(header->body_offset + spec->body_size, SHM_GRANULE);
    header->data_size = round_up(spec->payload_size, SHM_GRANULE);
    header->payload_size = spec->payload_size;
    header->file_size = header->data_offset + header->data_size;
}

uint64_t shm_file_size(const struct shm_spec *spec)
{
    struct shm_header header = {0};
    place(&header, spec);
    return header.file_size;
}

static void sign(struct shm_header *header)
{
    struct shm_process me;
    shm_describe_process(&me);
    header->created = shm_wall_clock();
    header->creator_pid = me.pid;
    header->creator_uid = geteuid();
    header->creator_pid_namespace = me.pid_namespace;
    memcpy(header->creator_command, me.command, sizeof header->creator_command - 1);
}

int shm_format(int fd, const struct shm_spec *spec)
{
    struct shm_header header = {.layout_version = SHM_LAYOUT_VERSION,
                                .abi = SHM_ABI,
                                .kind = spec->kind,
                                .flags = spec->flags,
                                .semaphore_count = spec->semaphore_count};
    memcpy(header.magic, SHM_MAGIC, sizeof header.magic);
    memcpy(header.cookie, spec->cookie, sizeof header.cookie);
    memcpy(header.semaphores, spec->semaphores, sizeof header.semaphores);
    place(&header, spec);
    sign(&header);
    header.checksum = checksum(&header);
    shm_boot_identity(header.boot);
    return pwrite(fd, &header, sizeof header, 0) == sizeof header ? SHM_OK : SHM_E_OS;
}

/* Every offset and size that the core will use lies in the file, in order, without overflow. */
static bool is_consistent(const struct shm_header *h)
{
    return h->slot_size == sizeof(struct shm_slot) && h->slot_count >= 1 &&
           h->slot_count <= SHM_MAX_SLOTS && h->slots_offset == sizeof(struct shm_header) &&
           h->granule >= SHM_GRANULE && (h->granule & (h->granule - 1)) == 0 &&
           h->file_size < (1ull << 56) && h->body_size < h->file_size &&
           h->data_size < h->file_size && h->payload_size <= h->data_size &&
           h->body_offset == h->slots_offset + (uint64_t)h->slot_count * h->slot_size &&
           h->data_offset >= h->body_offset + h->body_size &&
           h->data_offset % h->granule == 0 && h->data_size % h->granule == 0 &&
           h->file_size == h->data_offset + h->data_size;
}

int shm_check_header(int fd, struct shm_header *found)
{
    memset(found, 0, sizeof *found);
    struct stat file;
    if (fstat(fd, &file) != 0 || pread(fd, found, sizeof *found, 0) < 0)
        return SHM_E_OS;
    if (memcmp(found->magic, SHM_MAGIC, sizeof found->magic) != 0)
        return SHM_BAD_MAGIC;
    if (found->layout_version != SHM_LAYOUT_VERSION)
        return SHM_BAD_VERSION;
    if (found->abi != SHM_ABI)
        return SHM_BAD_ABI;
    if (found->checksum != checksum(found))
        return SHM_BAD_CHECKSUM;
    bool whole = (uint64_t)file.st_size >= found->file_size;
    return whole && is_consistent(found) ? SHM_OK : SHM_BAD_LAYOUT;
}

int shm_segment_open(struct shm_segment *segment, int fd)
{
    struct stat file;
    memset(segment, 0, sizeof *segment);
    int status = shm_check_header(fd, &segment->facts);
    if (status != SHM_OK)
        return status;
    if (fstat(fd, &file) != 0)
        return SHM_E_OS;
    const struct shm_header *facts = &segment->facts;
    struct shm_self *self = shm_map_private_to_process();
    uint8_t *base = self ? shm_map(fd, facts->file_size, facts->data_size) : NULL;
    if (!base) {
        int error = errno;
        if (self)
            shm_unmap_private(self);
        errno = error;
        return SHM_E_OS;
    }
    segment->fd = fd;
    segment->device = file.st_dev;
    segment->inode = file.st_ino;
    segment->base = base;
    segment->self = self;
    segment->header = (struct shm_header *)base;
    segment->slots = (struct shm_slot *)(base + facts->slots_offset);
    return SHM_OK;
}

void shm_segment_close(struct shm_segment *segment)
{
    if (!segment->base)
        return;
    shm_unmap(segment->base, segment->facts.file_size, segment->facts.data_size);
    shm_unmap_private(segment->self);
    segment->base = NULL;
}
