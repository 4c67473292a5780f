/* One run of a scenario: the processes, the walk to the place of death, and what comes after. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kill_driver.h"
#include "kill_step.h"
#include "mapping.h"

#define RUN_SECONDS 60 /* for a step of a run that has to come to an end */

/* What the victim is stepped from and to; they differ, lest the linker folds them into one. */
__attribute__((noinline, used)) static void mark_begin(void) { __asm__ volatile("nop"); }
__attribute__((noinline, used)) static void mark_end(void) { __asm__ volatile("nop;nop"); }

static struct kill_run *current;
static struct kill_stepper stepper;
static bool is_stepping;

const char *kill_point_text(const struct kill_point *point)
{
    static const char *const kinds[KILL_KINDS] = {
        "before the first instruction", "after a change of memory", "before a system call",
        "asleep in a system call", "after the last instruction"};
    static char text[256];
    snprintf(text, sizeof text, "%s, no. %u, step %llu, %s", kinds[point->kind], point->number,
             (unsigned long long)point->step, kill_function_at(point->where));
    return text;
}

void kill_tell_where(void)
{
    if (!current)
        return;
    fprintf(stderr, "in %s, %s: %s; at step %llu\n", current->scenario->primitive,
            current->scenario->operation, kill_point_text(&current->point),
            (unsigned long long)stepper.steps);
}

static void hangs(int signal_number)
{
    (void)signal_number;
    fprintf(stderr, "the survivor, a bystander or the victim hangs\n");
    kill_tell_where();
    _exit(1); /* the kernel ends the others */
}

/* --- the memory that is watched ------------------------------------------------------------- */

static uint8_t *seen[KILL_RANGES]; /* copies of the ranges */

void kill_watch(struct kill_run *run, const void *at, size_t size)
{
    size_t range = run->ranges++;
    CHECK(range < KILL_RANGES);
    run->watched[range].at = at;
    run->watched[range].size = size;
    seen[range] = realloc(seen[range], size);
    CHECK(seen[range]);
}

static void watch_segment(struct kill_run *run)
{
    const struct shm_header *facts = &run->segment.facts;
    run->ranges = 0;
    kill_watch(run, run->segment.base, facts->body_offset + facts->body_size);
    if (run->scenario->watch_data)
        kill_watch(run, shm_data(&run->segment), facts->data_size);
}

/* Whether it differs from the last look. */
static bool look(struct kill_run *run)
{
    bool changed = false;
    for (size_t i = 0; i < run->ranges; i++) {
        if (memcmp(seen[i], run->watched[i].at, run->watched[i].size) == 0)
            continue;
        memcpy(seen[i], run->watched[i].at, run->watched[i].size);
        changed = true;
    }
    return changed;
}

uint32_t kill_word_at_death(const struct kill_run *run, size_t offset)
{
    uint32_t word;
    memcpy(&word, run->at_death + run->segment.facts.body_offset + offset, sizeof word);
    return word;
}

/* --- the processes -------------------------------------------------------------------------- */

static int fork_helper(void)
{
    fflush(NULL);
    int parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(0);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

static void join(struct kill_run *run)
{
    int status;
    while ((status = shm_join(&run->segment, false)) == SHM_LOCKED)
        usleep(100);
    CHECK(status == SHM_OK);
}

/* On the processor of the driver and the victim, one of which always runs while there are steps:
 * so what a bystander that is woken does falls between two steps only by accident, and what is
 * found to have changed is the victim's doing. */
static void run_when_others_sleep(void)
{
    if (is_stepping)
        sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
}

/* The victim is dead; on a busy machine they could wait for long.  It takes a privilege. */
static void let_bystanders_run(const struct kill_run *run)
{
    is_stepping = false;
    for (int i = 0; i < KILL_BYSTANDERS; i++)
        if (run->bystanders[i])
            sched_setscheduler(run->bystanders[i], SCHED_OTHER, &(struct sched_param){0});
}

void kill_ready(struct kill_run *run, int index) { store_release(&run->notes->ready[index], 1); }

void kill_start_bystander(struct kill_run *run, int index, void (*play)(struct kill_run *run))
{
    CHECK(!run->bystanders[index]);
    store_relaxed(&run->notes->ready[index], 0);
    int pid = fork_helper();
    if (pid == 0) {
        run_when_others_sleep();
        join(run);
        play(run);
        _exit(0);
    }
    run->bystanders[index] = pid;
    while (!load_acquire(&run->notes->ready[index]))
        usleep(50);
    kill_wait_until_asleep(pid);
}

void kill_bystander_ends(struct kill_run *run, int index)
{
    int pid = run->bystanders[index];
    run->bystanders[index] = 0;
    if (pid)
        CHECK(wait_for(pid) == 0);
}

void kill_bystander_dies(struct kill_run *run, int index)
{
    int pid = run->bystanders[index];
    run->bystanders[index] = 0;
    if (!pid)
        return;
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(wait_for(pid) == -1);
}

static void be_the_victim(struct kill_run *run)
{
    if (!run->scenario->stranger) {
        join(run);
        store_release(&run->notes->victim, shm_me(&run->segment));
    }
    if (run->scenario->before)
        run->scenario->before(run);
    CHECK(kill_offer_myself());
    mark_begin();
    run->scenario->victim(run);
    mark_end();
    _exit(0);
}

static void start_victim(struct kill_run *run)
{
    int pid = fork_helper();
    if (pid == 0)
        be_the_victim(run);
    CHECK(kill_begin_stepping(&stepper, pid));
}

static void go_to_begin(void)
{
    while (stepper.pc != (uintptr_t)mark_begin)
        kill_step(&stepper);
    stepper.steps = 0;
}

/* --- the walk ------------------------------------------------------------------------------- */

struct walk {
    struct kill_run *run;
    const struct kill_point *target;
    struct kill_points *points;
    uint32_t numbers[KILL_KINDS];
};

/* Notes the place where the victim stands; true if it is to die here. */
static bool arrive(struct walk *walk, enum kill_kind kind)
{
    struct kill_point point = {kind, walk->numbers[kind]++, stepper.steps, stepper.own_pc};
    walk->run->point = point;
    if (walk->points) {
        CHECK(walk->points->count < walk->points->room);
        walk->points->found[walk->points->count++] = point;
    }
    return walk->target && walk->target->kind == kind && walk->target->number == point.number;
}

/* The victim sleeps; true if it is to die there. */
static bool sleep_through(struct walk *walk)
{
    if (arrive(walk, KILL_IN_CALL))
        return true;
    walk->run->slept++;
    if (walk->run->scenario->other_side)
        walk->run->scenario->other_side(walk->run);
    kill_wait_for_stop(&stepper);
    look(walk->run); /* what the others did meanwhile is not the victim's doing */
    return false;
}

static bool has_bystanders(const struct kill_run *run)
{
    return run->bystanders[0] || run->bystanders[1];
}

static bool step(struct walk *walk)
{
    bool call = kill_is_at_call(&stepper);
    if (call && arrive(walk, KILL_BEFORE_CALL))
        return true;
    look(walk->run); /* bystanders that look again may have written */
    if (kill_step(&stepper) == KILL_ASLEEP)
        return sleep_through(walk);
    if (call && has_bystanders(walk->run)) {
        look(walk->run); /* time enough for them, and no call of theirs or his writes there */
        return false;
    }
    return look(walk->run) && arrive(walk, KILL_AFTER_CHANGE);
}

static bool walk_to_death(struct walk *walk)
{
    bool here = arrive(walk, KILL_AT_BEGIN);
    while (!here && stepper.pc != (uintptr_t)mark_end)
        here = step(walk);
    return here || arrive(walk, KILL_AT_END) || !walk->target;
}

/* --- a run ---------------------------------------------------------------------------------- */

static struct kill_notes *shared_notes(void)
{
    static struct kill_notes *notes;
    if (!notes)
        notes = mmap(NULL, sizeof *notes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                     0);
    CHECK(notes != MAP_FAILED);
    memset(notes, 0, sizeof *notes);
    return notes;
}

static void drop_segment(struct shm_segment *segment)
{
    bool last;
    int fd = segment->fd;
    shm_leave(segment, NULL, &last);
    shm_segment_close(segment);
    close(fd);
}

void kill_make_segment(struct kill_run *run, const struct shm_spec *spec, const char *path)
{
    drop_segment(&run->segment);
    int fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : new_file(0);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, (off_t)shm_file_size(spec)) == 0);
    CHECK(shm_format(fd, spec) == SHM_OK);
    CHECK(shm_segment_open(&run->segment, fd) == SHM_OK);
    CHECK(shm_join(&run->segment, false) == SHM_OK);
    watch_segment(run);
}

static void begin_run(struct kill_run *run)
{
    const struct kill_scenario *scenario = run->scenario;
    run->notes = shared_notes();
    run->slept = run->dead = 0;
    make_segment(&run->segment, scenario->body_size, scenario->payload_size);
    watch_segment(run);
    if (scenario->set_up)
        scenario->set_up(run);
    start_victim(run);
    for (int i = 0; i < KILL_BYSTANDERS; i++)
        if (scenario->bystanders[i])
            kill_start_bystander(run, i, scenario->bystanders[i]);
}

/* Whoever comes later can join, and nobody takes the dead for alive. */
static void the_segment_goes_on(struct kill_run *run)
{
    struct shm_segment other;
    bool last;
    join_beside(&other, &run->segment);
    CHECK(shm_alive(&run->segment, shm_me(&other)));
    CHECK(!run->dead || !shm_alive(&other, run->dead));
    shm_leave(&other, NULL, &last);
    shm_unmap_private(other.self);
}

static void end_run(struct kill_run *run)
{
    for (int i = 0; i < KILL_BYSTANDERS; i++)
        kill_bystander_ends(run, i);
    drop_segment(&run->segment);
    unlink(run->path);
}

bool kill_play(struct kill_run *run, const struct kill_point *target, struct kill_points *points)
{
    struct walk walk = {.run = run, .target = target, .points = points};
    current = run;
    signal(SIGALRM, hangs);
    alarm(RUN_SECONDS);
    is_stepping = true;
    begin_run(run);
    go_to_begin();
    look(run);
    bool reached = walk_to_death(&walk);
    look(run);
    run->at_death = seen[0];
    run->dead = load_acquire(&run->notes->victim);
    kill_now(&stepper);
    let_bystanders_run(run);
    run->scenario->check(run);
    the_segment_goes_on(run);
    end_run(run);
    alarm(0);
    current = NULL;
    return reached;
}
