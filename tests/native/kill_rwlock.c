/* The reader-writer lock: writers are alone, the dead keep nobody out, half-written is told. */
#include <unistd.h>

#include "kill_driver.h"
#include "mapping.h"
#include "rwlock.h"

/* In the notes. */
enum { READING = 0, WRITING = 1, TOLD = 2 /* and 3: what the bystanders' calls answered */ };

static const struct shm_place futex = {0};

static struct shm_rwlock *rwlock_of(struct kill_run *run)
{
    return (struct shm_rwlock *)shm_body(&run->segment);
}

/* --- as the binding does it ------------------------------------------------------------------- */

static int start_reading(struct kill_run *run, uint64_t interval)
{
    struct shm_patience patience;
    struct shm_wait wait;
    struct shm_queued queued;
    int status;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while ((status = shm_rwlock_try_read(&run->segment, rwlock_of(run))) == SHM_NOT_NOW) {
        shm_rwlock_queue(&run->segment, rwlock_of(run), &queued);
        status = shm_rwlock_wait_read(&run->segment, &queued, &patience, &wait);
        CHECK(status == SHM_OK);
        if (shm_rwlock_unqueue(&queued))
            return SHM_OK;
    }
    return status;
}

static void stop_reading(struct kill_run *run)
{
    CHECK(shm_rwlock_release_read(&run->segment, rwlock_of(run)) == SHM_OK);
}

static int start_writing(struct kill_run *run, uint64_t interval)
{
    struct shm_rwlock *rwlock = rwlock_of(run);
    struct shm_patience patience;
    struct shm_wait wait;
    uint32_t claim = shm_me(&run->segment);
    int status;
    shm_patience_init(&patience, 0);
    shm_wait_init(&wait, SHM_NEVER, interval);
    while ((status = shm_rwlock_try_write(&run->segment, rwlock, claim)) == SHM_LOCKED) {
        CHECK(shm_lock_wait(&run->segment, &rwlock->writer, &futex, &patience, &wait) == SHM_OK);
        claim |= SHM_SLEEPERS;
    }
    while (!shm_rwlock_is_alone(&run->segment, rwlock))
        CHECK(shm_rwlock_wait_alone(&run->segment, rwlock, &patience, &wait) == SHM_OK);
    shm_rwlock_begin_write(rwlock);
    return status;
}

static void stop_writing(struct kill_run *run)
{
    CHECK(shm_rwlock_release_write(&run->segment, rwlock_of(run)) == SHM_OK);
}

/* --- who is inside ---------------------------------------------------------------------------- */

static void read_as(struct kill_run *run, int index, uint64_t interval)
{
    shm_atomic32 *words = run->notes->words;
    kill_ready(run, index);
    store_relaxed(&words[TOLD + index], (uint32_t)start_reading(run, interval));
    fetch_add(&words[READING], 1);
    CHECK(load_acquire(&words[WRITING]) == 0);
    usleep(200);
    fetch_sub(&words[READING], 1);
    stop_reading(run);
}

static void write_as(struct kill_run *run, int index, uint64_t interval)
{
    shm_atomic32 *words = run->notes->words;
    kill_ready(run, index);
    store_relaxed(&words[TOLD + index], (uint32_t)start_writing(run, interval));
    CHECK(exchange(&words[WRITING], 1) == 0 && load_acquire(&words[READING]) == 0);
    usleep(200);
    CHECK(exchange(&words[WRITING], 0) == 1);
    stop_writing(run);
}

static void first_writer(struct kill_run *run) { write_as(run, 0, KILL_BYSTANDER_SLEEPS); }
static void second_reader(struct kill_run *run) { read_as(run, 1, KILL_BYSTANDER_SLEEPS); }
static void late_reader(struct kill_run *run) { read_as(run, 0, KILL_SLEEPS_ON); }
static void late_writer(struct kill_run *run) { write_as(run, 1, KILL_SLEEPS_ON); }

static bool was_told(struct kill_run *run, int index)
{
    return load_relaxed(&run->notes->words[TOLD + index]) == SHM_INHERITED;
}

/* A writer comes first and is told if something is half written; then all exclude each other. */
static void goes_on(struct kill_run *run, bool told)
{
    struct shm_rwlock *rwlock = rwlock_of(run);
    const struct shm_segment *mine = &run->segment;
    int expected = told ? SHM_INHERITED : SHM_OK;
    CHECK(shm_rwlock_try_write(mine, rwlock, shm_me(mine)) == expected);
    CHECK(shm_rwlock_is_alone(mine, rwlock));
    shm_rwlock_begin_write(rwlock);
    kill_start_bystander(run, 0, late_reader);
    kill_start_bystander(run, 1, late_writer);
    stop_writing(run); /* lets one in and wakes the other, who wakes nobody but gets in */
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    CHECK(!was_told(run, 0) && !was_told(run, 1));
    CHECK(shm_rwlock_try_read(mine, rwlock) == SHM_OK);
    kill_start_bystander(run, 1, late_writer);
    CHECK(shm_rwlock_readers(mine, rwlock) == 1);
    stop_reading(run);
    kill_bystander_ends(run, 1);
    CHECK(shm_rwlock_readers(mine, rwlock) == 0 && load_relaxed(&rwlock->writer.word) == 0);
}

/* Whether the victim had begun to write, or inherited from one who had, and had not let go. */
static bool wrote_at_death(struct kill_run *run)
{
    uint32_t word = kill_word_at_death(run, offsetof(struct shm_lock, word));
    return (word & SHM_IDENTITY) == run->dead &&
           kill_word_at_death(run, offsetof(struct shm_lock, depth)) != 0;
}

/* --- the victim reads ------------------------------------------------------------------------- */

static void read_here(struct kill_run *run) { start_reading(run, KILL_VICTIM_SLEEPS); }
static void nothing_is_told(struct kill_run *run) { goes_on(run, false); }

static void survivor_writes(struct kill_run *run)
{
    CHECK(start_writing(run, KILL_SLEEPS_ON) == SHM_OK);
}

static void survivor_stops_writing(struct kill_run *run)
{
    if (run->slept == 1)
        stop_writing(run);
}

static void after_the_writer(struct kill_run *run)
{
    if (!run->slept) {
        CHECK(shm_rwlock_is_alone(&run->segment, rwlock_of(run)));
        stop_writing(run);
    }
    goes_on(run, wrote_at_death(run));
}

static void somebody_dies_writing(struct kill_run *run)
{
    int pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(shm_join(&run->segment, false) == SHM_OK);
        CHECK(start_writing(run, KILL_SLEEPS_ON) == SHM_OK);
        _exit(0);
    }
    CHECK(wait_for(pid) == 0);
}

/* A reader that inherits is told, and nobody after him, unless he died with the writers' lock. */
static void told_unless_the_reader_was(struct kill_run *run)
{
    bool held = kill_word_at_death(run, offsetof(struct shm_lock, word)) != 0;
    CHECK(held || run->point.kind != KILL_AT_BEGIN);
    CHECK(!held || run->point.kind != KILL_AT_END);
    goes_on(run, held);
}

static void survivor_inherits_reading(struct kill_run *run)
{
    somebody_dies_writing(run);
    CHECK(start_reading(run, KILL_SLEEPS_ON) == SHM_INHERITED);
    stop_reading(run);
}

static void survivor_reads(struct kill_run *run)
{
    CHECK(start_reading(run, KILL_SLEEPS_ON) == SHM_OK);
}

static void survivor_stops_reading(struct kill_run *run)
{
    if (run->slept == 1)
        stop_reading(run);
}

static void before_reading(struct kill_run *run) { read_here(run); }

/* A writer waited for the victim alone. */
static void the_writer_gets_in(struct kill_run *run)
{
    kill_bystander_ends(run, 0);
    CHECK(!was_told(run, 0));
    goes_on(run, false);
}

/* --- the victim writes ------------------------------------------------------------------------ */

static void write_here(struct kill_run *run) { start_writing(run, KILL_VICTIM_SLEEPS); }

static void told_if_written(struct kill_run *run)
{
    bool wrote = wrote_at_death(run);
    CHECK(!wrote || run->point.kind != KILL_AT_BEGIN);
    CHECK(wrote || run->point.kind != KILL_AT_END);
    goes_on(run, wrote);
}

static void after_the_reader(struct kill_run *run)
{
    if (!run->slept)
        stop_reading(run);
    told_if_written(run);
}

static void always_told(struct kill_run *run) { goes_on(run, true); }

/* A reader and a writer slept; the first that comes is told if the victim had not let go. */
static void both_get_in(struct kill_run *run)
{
    bool wrote = wrote_at_death(run);
    CHECK(wrote || run->point.kind != KILL_AT_BEGIN);
    CHECK(!wrote || run->point.kind != KILL_AT_END);
    kill_bystander_ends(run, 0);
    kill_bystander_ends(run, 1);
    CHECK(was_told(run, 0) + was_told(run, 1) == wrote);
    goes_on(run, false);
}

#define RWLOCK                                                                                 \
    .primitive = "rwlock",                                                                     \
    .body_size = sizeof(struct shm_rwlock) + 32 * sizeof(struct shm_readers)
#define NOT_IN "the dead is not in"
#define TOLD_IF_WRITTEN "the next one has it, and is told if the dead had begun to write"

const struct kill_scenario kill_rwlock[] = {
    {RWLOCK,
     .operation = "read, free",
     .who_dies = "the reader",
     .others_see = NOT_IN,
     .victim = read_here,
     .check = nothing_is_told},
    {RWLOCK,
     .operation = "read, being written",
     .who_dies = "the reader",
     .others_see = NOT_IN,
     .set_up = survivor_writes,
     .victim = read_here,
     .other_side = survivor_stops_writing,
     .check = after_the_writer},
    {RWLOCK,
     .operation = "read, writer dead",
     .who_dies = "the reader that inherits",
     .others_see = NOT_IN ", and the next one inherits unless he had come in",
     .set_up = somebody_dies_writing,
     .victim = read_here,
     .check = told_unless_the_reader_was},
    {RWLOCK,
     .operation = "release after reading, a writer waits",
     .who_dies = "the reader",
     .others_see = NOT_IN "; the writer gets in",
     .bystanders = {first_writer},
     .before = before_reading,
     .victim = stop_reading,
     .check = the_writer_gets_in},
    {RWLOCK,
     .operation = "write, free",
     .who_dies = "the writer",
     .others_see = TOLD_IF_WRITTEN,
     .victim = write_here,
     .check = told_if_written},
    {RWLOCK,
     .operation = "write, after a reader inherited",
     .who_dies = "the writer",
     .others_see = TOLD_IF_WRITTEN,
     .set_up = survivor_inherits_reading,
     .victim = write_here,
     .check = told_if_written},
    {RWLOCK,
     .operation = "write, being read",
     .who_dies = "the writer",
     .others_see = TOLD_IF_WRITTEN,
     .set_up = survivor_reads,
     .victim = write_here,
     .other_side = survivor_stops_reading,
     .check = after_the_reader},
    {RWLOCK,
     .operation = "write, being written",
     .who_dies = "the second writer",
     .others_see = TOLD_IF_WRITTEN,
     .set_up = survivor_writes,
     .victim = write_here,
     .other_side = survivor_stops_writing,
     .check = after_the_writer},
    {RWLOCK,
     .operation = "write, writer dead",
     .who_dies = "the heir",
     .others_see = "the next one has it, and is told",
     .set_up = somebody_dies_writing,
     .victim = write_here,
     .check = always_told},
    {RWLOCK,
     .operation = "release after writing, two wait",
     .who_dies = "the writer",
     .others_see = "both get in; the first is told if the dead had not let go",
     .bystanders = {first_writer, second_reader},
     .before = write_here,
     .victim = stop_writing,
     .check = both_get_in},
    {0},
};
