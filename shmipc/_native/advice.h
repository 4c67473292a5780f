/* The advice that this system's madvise knows, by the names it has there. */
#ifndef SHMIPC_ADVICE_H
#define SHMIPC_ADVICE_H

#include <sys/mman.h>
#include <linux/mman.h> /* may be newer than the C library */

struct shm_advice {
    const char *name;
    int number;
};

static const struct shm_advice shm_advices[] = {
#ifdef MADV_NORMAL
    {"NORMAL", MADV_NORMAL},
#endif
#ifdef MADV_RANDOM
    {"RANDOM", MADV_RANDOM},
#endif
#ifdef MADV_SEQUENTIAL
    {"SEQUENTIAL", MADV_SEQUENTIAL},
#endif
#ifdef MADV_WILLNEED
    {"WILLNEED", MADV_WILLNEED},
#endif
#ifdef MADV_DONTNEED
    {"DONTNEED", MADV_DONTNEED},
#endif
#ifdef MADV_FREE
    {"FREE", MADV_FREE},
#endif
#ifdef MADV_REMOVE
    {"REMOVE", MADV_REMOVE},
#endif
#ifdef MADV_DONTFORK
    {"DONTFORK", MADV_DONTFORK},
#endif
#ifdef MADV_DOFORK
    {"DOFORK", MADV_DOFORK},
#endif
#ifdef MADV_MERGEABLE
    {"MERGEABLE", MADV_MERGEABLE},
#endif
#ifdef MADV_UNMERGEABLE
    {"UNMERGEABLE", MADV_UNMERGEABLE},
#endif
#ifdef MADV_SOFT_OFFLINE
    {"SOFT_OFFLINE", MADV_SOFT_OFFLINE},
#endif
#ifdef MADV_HWPOISON
    {"HWPOISON", MADV_HWPOISON},
#endif
#ifdef MADV_HUGEPAGE
    {"HUGEPAGE", MADV_HUGEPAGE},
#endif
#ifdef MADV_NOHUGEPAGE
    {"NOHUGEPAGE", MADV_NOHUGEPAGE},
#endif
#ifdef MADV_DONTDUMP
    {"DONTDUMP", MADV_DONTDUMP},
#endif
#ifdef MADV_DODUMP
    {"DODUMP", MADV_DODUMP},
#endif
#ifdef MADV_WIPEONFORK
    {"WIPEONFORK", MADV_WIPEONFORK},
#endif
#ifdef MADV_KEEPONFORK
    {"KEEPONFORK", MADV_KEEPONFORK},
#endif
#ifdef MADV_COLD
    {"COLD", MADV_COLD},
#endif
#ifdef MADV_PAGEOUT
    {"PAGEOUT", MADV_PAGEOUT},
#endif
#ifdef MADV_POPULATE_READ
    {"POPULATE_READ", MADV_POPULATE_READ},
#endif
#ifdef MADV_POPULATE_WRITE
    {"POPULATE_WRITE", MADV_POPULATE_WRITE},
#endif
#ifdef MADV_DONTNEED_LOCKED
    {"DONTNEED_LOCKED", MADV_DONTNEED_LOCKED},
#endif
#ifdef MADV_COLLAPSE
    {"COLLAPSE", MADV_COLLAPSE},
#endif
    {0},
};

#endif
