/* What the native tests share: a check that ends the program, and segments on memfds. */
#ifndef SHMIPC_TESTS_SUPPORT_H
#define SHMIPC_TESTS_SUPPORT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A new ring of the smallest capacity. */
void make_ring(struct shm_segment *segment, uint64_t max_items, uint32_t flags);

/* Waits for a child and answers its exit status. */
int wait_for(int pid);

#endif
