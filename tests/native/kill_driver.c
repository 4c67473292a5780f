/* kill_driver [--all] [--list] [--seed N] [--point N] [PRIMITIVE [OPERATION]]
 *
 * Runs the scenarios of kill_driver.h and prints a row of a table for each: how many places to kill
 * at were found, and at how many the victim was killed.  Without --all, or SHMIPC_STRESS=1 in the
 * environment, that is every k-th, from a random one on.  --point is one of them alone, with the
 * numbers that --list shows. */
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "kill_driver.h"
#include "kill_step.h"

#define SAMPLE 8 /* points of each scenario */
#define MOST_POINTS 4096
#define SKIPPED 77

static const struct kill_scenario *const groups[] = {kill_lock,      kill_recover, kill_event,
                                                   kill_semaphore, kill_meet,    kill_rwlock,
                                                   kill_number,    kill_segment};

static struct options {
    bool all, list;
    uint32_t seed;
    long point; /* -1: not one alone */
    const char *primitive, *operation;
} options = {.point = -1};

static uint32_t next_random(void)
{
    options.seed = options.seed * 1664525u + 1013904223u;
    return options.seed >> 8;
}

/* Plays the points number first, first + stride, ...; how many of them were come to. */
static size_t try_points(struct kill_run *run, const struct kill_points *points, size_t first,
                         size_t stride)
{
    size_t tried = 0;
    for (size_t i = first; i < points->count; i += stride)
        tried += kill_play(run, &points->found[i], NULL);
    return tried;
}

static size_t try_sample(struct kill_run *run, const struct kill_points *points)
{
    size_t stride = options.all ? 1 : (points->count + SAMPLE - 1) / SAMPLE;
    if (options.point >= 0)
        return try_points(run, points, (size_t)options.point, points->count);
    return try_points(run, points, next_random() % stride, stride);
}

static void run_scenario(const struct kill_scenario *scenario, const char *path)
{
    static struct kill_point found[MOST_POINTS];
    struct kill_points points = {.found = found, .room = MOST_POINTS};
    struct kill_run run = {.scenario = scenario, .path = path};
    kill_play(&run, NULL, &points);
    if (options.list)
        for (size_t i = 0; i < points.count; i++)
            printf("%zu: %s\n", i, kill_point_text(&found[i]));
    size_t tried = try_sample(&run, &points);
    printf("| %s | %s | %s | %s | %zu | %zu |\n", scenario->primitive, scenario->operation,
           scenario->who_dies, scenario->others_see, points.count, tried);
    CHECK(tried > 0);
}

static bool is_wanted(const struct kill_scenario *scenario)
{
    return (!options.primitive || strcmp(options.primitive, scenario->primitive) == 0) &&
           (!options.operation || strcmp(options.operation, scenario->operation) == 0);
}

static void read_options(int count, char **arguments)
{
    const char *stress = getenv("SHMIPC_STRESS");
    options.all = stress && strcmp(stress, "1") == 0;
    options.seed = (uint32_t)time(NULL);
    for (int i = 1; i < count; i++) {
        bool more = i + 1 < count;
        if (strcmp(arguments[i], "--all") == 0)
            options.all = true;
        else if (strcmp(arguments[i], "--list") == 0)
            options.list = true;
        else if (strcmp(arguments[i], "--seed") == 0 && more)
            options.seed = (uint32_t)atol(arguments[++i]);
        else if (strcmp(arguments[i], "--point") == 0 && more)
            options.point = atol(arguments[++i]);
        else if (!options.primitive)
            options.primitive = arguments[i];
        else
            options.operation = arguments[i];
    }
}

/* A directory of this run alone, so that a name in it is free. */
static void run_wanted(void)
{
    char directory[] = "/tmp/shmipc-kill-XXXXXX", path[64];
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/segment", directory);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (const struct kill_scenario *scenario = groups[i]; scenario->primitive; scenario++)
            if (is_wanted(scenario))
                run_scenario(scenario, path);
    rmdir(directory);
}

/* Stepping is a hand-over at each instruction, which is quicker within one processor. */
static void stay_on_one_processor(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

int main(int count, char **arguments)
{
    const char *why = kill_why_not_stepped();
    if (why) {
        printf("skipped: %s\n", why);
        return SKIPPED;
    }
    stay_on_one_processor();
    read_options(count, arguments);
    setvbuf(stdout, NULL, _IOLBF, 0);
    atexit(kill_tell_where); /* silent unless a check ends us in the middle of a run */
    printf("seed %u\n", options.seed);
    printf("| primitive | operation | who dies | what the others see | places | killed at |\n"
           "| --- | --- | --- | --- | --- | --- |\n");
    run_wanted();
    return 0;
}
