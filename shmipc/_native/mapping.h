/* Putting a segment's file into this process's memory. */
#ifndef SHMIPC_MAPPING_H
#define SHMIPC_MAPPING_H

#include <stddef.h>
#include <stdint.h>

/* Maps the first `size` bytes of `fd`, and behind them once more its last `mirror` bytes, so
 * that what wraps at the end of the file is contiguous in memory.  NULL: see errno. */
uint8_t *shm_map(int fd, size_t size, size_t mirror);
void shm_unmap(uint8_t *base, size_t size, size_t mirror);

/* A page of zeros that is zero again in every child of fork. */
void *shm_map_private_to_process(void);
void shm_unmap_private(void *page);

/* A file that even the kernel does not read, for memory that nobody else is to see; -1: errno. */
int shm_secret_file(void);

/* Keeps the open file description of `fd`, and the locks on it, for as long as this process
 * lives or until shm_release_hold, with no descriptor; no child of fork inherits it. */
void *shm_hold(int fd);
void shm_release_hold(void *hold);

#endif
