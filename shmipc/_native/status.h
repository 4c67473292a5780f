/* What the native functions answer.  Zero is success; one place in the binding turns the others
 * into exceptions.  SHM_E_OS means: look at errno. */
#ifndef SHMIPC_STATUS_H
#define SHMIPC_STATUS_H

enum shm_status {
    SHM_OK = 0,
    SHM_INHERITED,    /* done, and the lock came from a dead owner */
    SHM_EMPTY,        /* no message that could be taken now */
    SHM_FULL,         /* not enough bytes */
    SHM_FULL_ITEMS,   /* max_items reached */
    SHM_LOCKED,       /* a living process holds the lock */
    SHM_SHUT_DOWN,    /* no more messages, ever */
    SHM_CLOSED,       /* this handle was closed in the meantime */
    SHM_TIMED_OUT,
    SHM_INTERRUPTED,  /* a signal came: run its handler, then wait again */
    SHM_UNREGISTERED, /* this process has no participant slot yet */
    SHM_NO_SLOT,      /* all participant slots are taken by living processes */
    SHM_GONE,         /* the name was removed while we attached: look again */
    SHM_OTHER_BOOT,   /* left open when the machine went down */
    SHM_BUSY,         /* the side belongs to another living process */
    SHM_TOO_LARGE,    /* longer than any message may be */
    SHM_NOT_HELD,     /* released without being held */
    SHM_NOT_NOW,      /* it would have to wait */
    SHM_OWNER_DIED,   /* the lock's owner is dead, and nobody has recovered it */
    SHM_BROKEN_OFF,   /* the barrier is broken, or was reset */
    SHM_NO_PLACE,     /* all places of waiters are taken by the living */
    SHM_BAD_MAGIC,
    SHM_BAD_VERSION,
    SHM_BAD_ABI,
    SHM_BAD_CHECKSUM,
    SHM_BAD_LAYOUT,   /* the header's offsets do not fit the file */
    SHM_FAULT,        /* the memory behind a mapping cannot be had */
    SHM_CORRUPT,      /* a word in shared memory has an impossible value */
    SHM_E_OS,
};

#endif
