/* A segment as one process sees it: a checked header, the mapping, and a participant slot. */
#ifndef SHMIPC_SEGMENT_H
#define SHMIPC_SEGMENT_H

#include <sys/types.h>

#include "layout.h"
#include "status.h"

/* On a page that fork wipes: in a child both are zero, and it registers for itself. */
struct shm_self {
    shm_atomic32 identity;
    void *hold;
};

struct shm_segment {
    int fd; /* the caller's; it never holds a lock, and may be shared with other processes */
    dev_t device;
    ino_t inode;
    uint8_t *base;
    struct shm_header facts;   /* as checked at the opening; the shared copy is not read again */
    struct shm_header *header; /* the shared one, for the words that change */
    struct shm_slot *slots;
    struct shm_self *self;
};

/* What a new segment is to be; the offsets follow from it. */
struct shm_spec {
    uint32_t kind;
    uint32_t flags;
    uint32_t slot_count;
    uint32_t semaphore_count;
    uint64_t body_size;
    uint64_t payload_size; /* the data area is this, rounded up to granules */
    uint8_t cookie[16];
    char semaphores[32];
};

/* The whole file's size for `spec`. */
uint64_t shm_file_size(const struct shm_spec *spec);

/* Writes a header into the zeroed file; the creator does it before the name appears. */
int shm_format(int fd, const struct shm_spec *spec);

/* Checks, then maps.  Nothing is written, and nothing is left mapped on failure. */
int shm_segment_open(struct shm_segment *segment, int fd);
void shm_segment_close(struct shm_segment *segment);

/* The checks alone.  `found` gets the header as far as it could be read. */
int shm_check_header(int fd, struct shm_header *found);

static inline uint8_t *shm_body(const struct shm_segment *segment)
{
    return segment->base + segment->facts.body_offset;
}

static inline uint8_t *shm_data(const struct shm_segment *segment)
{
    return segment->base + segment->facts.data_offset;
}

/* Who I am in this segment; 0 until shm_join, and again in a child of fork. */
static inline uint32_t shm_me(const struct shm_segment *segment)
{
    return load_relaxed(&segment->self->identity);
}

#endif
