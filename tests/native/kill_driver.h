/* Kills a process wherever that can matter in one native operation, and looks what the others see.
 *
 * A victim is stepped through the operation, instruction by instruction.  It is killed, each time
 * in a new run over a new segment,
 *   - before the first and after the last instruction,
 *   - after each instruction that has changed the watched memory,
 *   - before each system call, which is also after the one before it,
 *   - in each system call in which it sleeps.
 * Between two of these places nothing happens that anybody else could see, so they stand for every
 * instruction of the operation.  Then the scenario's check runs in the driver's own process, which
 * is the survivor, beside up to two bystanders that held or waited meanwhile.
 *
 * A place is found again by its kind and number (the 3rd change, the 7th call), not by counting
 * instructions: how many it takes to read a clock or to print a pid differs between runs. */
#ifndef SHMIPC_TESTS_KILL_DRIVER_H
#define SHMIPC_TESTS_KILL_DRIVER_H

#include "participants.h"
#include "support.h"

#define KILL_BYSTANDERS 2
#define KILL_WORDS 16
#define KILL_RANGES 4

/* How long the victim and the bystanders sleep the first time. */
#define KILL_VICTIM_SLEEPS SHM_RECHECK_MIN
#define KILL_BYSTANDER_SLEEPS (SHM_RECHECK_MIN / 4)
#define KILL_SLEEPS_ON (1000 * SHM_RECHECK_MAX) /* only a wake ends it before the test is over */

enum kill_kind { KILL_AT_BEGIN, KILL_AFTER_CHANGE, KILL_BEFORE_CALL, KILL_IN_CALL, KILL_AT_END };
#define KILL_KINDS 5

struct kill_point {
    enum kill_kind kind;
    uint32_t number; /* the how-many-th of its kind, from 0 */
    uint64_t step;   /* for people, as is */
    uintptr_t where; /* the last instruction before it that is this program's own */
};

/* Memory that all processes of a run share and nobody watches: what they tell each other. */
struct kill_notes {
    shm_atomic32 victim;                 /* its identity */
    shm_atomic32 ready[KILL_BYSTANDERS]; /* about to sleep, or holding */
    shm_atomic32 words[KILL_WORDS];      /* the scenario's own */
};

struct kill_run {
    const struct kill_scenario *scenario;
    struct shm_segment segment; /* the survivor has joined; its children have not */
    struct kill_notes *notes;
    const char *path; /* a file's name that is free; removed after the run */
    int bystanders[KILL_BYSTANDERS];
    uint32_t slept; /* how often the victim has been found asleep */

    /* For the check: who was killed and where, and the first watched range as it was then, when
     * the victim still stood there and nobody could have taken over from it. */
    uint32_t dead;
    struct kill_point point;
    const uint8_t *at_death;

    struct {
        const uint8_t *at;
        size_t size;
    } watched[KILL_RANGES];
    size_t ranges;
};

/* Everything but `operation`, `check` and the words for the table may be left out. */
struct kill_scenario {
    const char *primitive, *operation; /* `primitive` also selects on the command line */
    const char *who_dies, *others_see;

    size_t body_size, payload_size; /* of the segment; its header, slots and body are watched */
    bool watch_data;                /* its data, too */

    /* In the survivor, before anybody is forked. */
    void (*set_up)(struct kill_run *run);

    /* In processes of their own that have joined, when `before` is over.  They call
     * kill_ready(run, i) when they hold or are about to sleep, and have to end by themselves, after
     * the check at the latest. */
    void (*bystanders[KILL_BYSTANDERS])(struct kill_run *run);

    /* In the victim: what it has done before, unstepped, and what is stepped. `stranger`: it has
     * not joined. */
    void (*before)(struct kill_run *run);
    void (*victim)(struct kill_run *run);
    bool stranger;

    /* In the survivor, each time that the victim sleeps and is not killed there: lets it go on. */
    void (*other_side)(struct kill_run *run);

    /* In the survivor, when the victim is gone.  That somebody can join then, and that the dead
     * counts as dead, is checked after it for all scenarios. */
    void (*check)(struct kill_run *run);
};

/* Each ends with a scenario that has no name. */
extern const struct kill_scenario kill_event[], kill_lock[], kill_meet[], kill_number[],
    kill_recover[], kill_rwlock[], kill_segment[], kill_semaphore[];

/* For bystanders. */
void kill_ready(struct kill_run *run, int index);

/* For other_side and checks: starts a bystander in the place of one that has ended or was not
 * there, and waits until it sleeps; waits until it has ended well; kills it. */
void kill_start_bystander(struct kill_run *run, int index, void (*play)(struct kill_run *run));
void kill_bystander_ends(struct kill_run *run, int index);
void kill_bystander_dies(struct kill_run *run, int index);

/* For set_up: more memory to watch; and a segment of another kind than usual, in a new file at
 * `path` (NULL: none), which the survivor has opened and joined. */
void kill_watch(struct kill_run *run, const void *at, size_t size);
void kill_make_segment(struct kill_run *run, const struct shm_spec *spec, const char *path);

/* For checks: the word at `offset` of the body when the victim was killed. */
uint32_t kill_word_at_death(const struct kill_run *run, size_t offset);

/* Of the engine: one run, up to `target`, or to the end where all points are written to `found`
 * (room for `room` of them) and counted.  False if this run did not come to the target. */
struct kill_points {
    struct kill_point *found;
    size_t count, room;
};

bool kill_play(struct kill_run *run, const struct kill_point *target, struct kill_points *points);

/* What is going on, to stderr, for who fails; and a place in words, until the next call. */
void kill_tell_where(void);
const char *kill_point_text(const struct kill_point *point);

#endif
