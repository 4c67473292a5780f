/* What the native tests share: a check that ends the program; segments on memfds; regions. */
#ifndef SHMIPC_TESTS_SUPPORT_H
#define SHMIPC_TESTS_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"
#include "ring.h"

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);           \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* A new segment whose creator has joined. */
void make_segment(struct shm_segment *segment, uint64_t body_size, uint64_t payload_size);

/* Another participant over the same mapping: within one process, a thread that plays one.  The
 * thread sanitizer tells addresses apart, not memory, so the mapping has to be the same. */
void join_beside(struct shm_segment *other, const struct shm_segment *segment);

/* The same in the slot that `identity` had, whose process is dead. */
void join_in_slot_of(struct shm_segment *other, const struct shm_segment *segment,
                     uint32_t identity);

/* Waits in which nobody dies sleep this long: a lost wake is then seen as a changed interval, and not
 * healed by looking again. */
#define WITHOUT_RECHECK (30 * 1000000000ull)

/* A child that joins, plays its part, and stays; answers when it has played, with its identity there
 * if one asks.  Then it may be killed. */
int start_player(struct shm_segment *segment, void (*play)(void), uint32_t *identity);
void kill_player(int pid);

/* As many threads as there are plays, each with its number. */
void run_threads(int count, void *(*play)(void *number));

/* A new ring of the smallest capacity. */
void make_ring(struct shm_segment *segment, uint64_t max_items, uint32_t flags);

/* A file that has no name. */
int new_file(size_t pages);

/* As many pages of a file, or of nothing if it is -1, and addresses for twice as many. */
struct shm_region_spec region_spec(int fd, size_t pages, int sharing);
void map_region(struct shm_region *region, int fd, size_t pages, int sharing);

/* Closes the file, too, and nothing is left of what the test has mapped. */
void done_with(struct shm_region *region);

/* A region that is watched, and a page that is not: both have lost their file.  The
 * children that use them have them from us. */
extern struct shm_region watched;
extern volatile uint8_t *foreign;
void lose_memory(void);
void touch_watched(size_t offset);
void guard(void);

/* Runs it in a child, which an alarm ends if it hangs: it comes back, or SIGBUS ends it. */
void ends_well(void (*play)(void));
void dies_of_bus_error(void (*play)(void));

/* Waits for a child and answers its exit status. */
int wait_for(int pid);

#endif
