#include "bench.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_kernel_args.h"

static const char usage[] =
    "car_bench: latency of blocking MPI_Allreduce on CUDA buffers, by message size\n"
    "  mpirun -n RANKS car_bench [OPTIONS]\n"
    "  --min BYTES, --max BYTES    sizes, suffixes k, m, g (default 8 to 64m)\n"
    "  --step FACTOR               from one size to the next (default 2)\n"
    "  --type float|double|int32|int64|uint32|uint64     --op sum|prod|min|max\n"
    "  --buffers device|managed|pool|vmm|other|host|registered|mapped (default device)\n"
    "  --in-place                  MPI_IN_PLACE\n"
    "  --rotate N                  use N pairs of buffers in turn, so that caches do not flatter (default 1)\n"
    "  --baseline                  also the same Open MPI without coll/car, in turns, up to --baseline-max (default 16m)\n"
    "  --activate                  one call with device memory first: what a GPU program's host buffers get\n"
    "  --reference                 also the inference engines' way: copy in, one kernel, stream synchronise; float sum\n"
    "  --time SECONDS              per size and implementation (default 0.2); --iterations N instead of that\n"
    "  --no-check                  do not check results\n"
    "  --csv FILE, --json FILE     also write the figures there\n";

static void end(FILE *to, int status, const char *what, const char *value)
{
    if (0 == test.rank) {
        fprintf(to, "%s%s%s%s%s", 0 == status ? "" : "car_bench: ", what, NULL == value ? "" : ": ",
                NULL == value ? "" : value, 0 == status ? "" : "; --help lists the options\n");
    }
    MPI_Finalize();
    exit(status);
}

static void fail(const char *what, const char *value)
{
    end(stderr, 2, what, value);
}

/* A number in [low, high], and what follows it. */
static double number(const char *text, double low, double high, const char **rest)
{
    char *after;
    const double value = strtod(text, &after);

    *rest = after;
    if (after == text || !(value >= low && value <= high)) {
        fail("not a number that can stand here", text);
    }
    return value;
}

static size_t bytes_of(const char *text)
{
    static const char units[] = "kmgKMG";
    const char *unit;
    double value = number(text, 1, 1e15, &unit);
    const char *known = '\0' == *unit ? NULL : strchr(units, *unit);

    if (NULL != known) {
        value *= (double) ((size_t) 1 << 10 * (1 + (known - units) % 3));
        ++unit;
    }
    if ('\0' != *unit || value > 1e15) {
        fail("not a number of bytes", text);
    }
    return (size_t) value;
}

static int count_of(const char *text, int low, int high)
{
    const char *rest;
    const double value = number(text, low, high, &rest);

    if ('\0' != *rest || value != (int) value) {
        fail("not a whole number", text);
    }
    return (int) value;
}

static double seconds_of(const char *text)
{
    const char *rest;
    const double value = number(text, 1e-6, 3600, &rest);

    if ('\0' != *rest) {
        fail("not a time in seconds", text);
    }
    return value;
}

static void set_type(bench_options_t *o, const char *name)
{
    const struct {
        const char *name;
        MPI_Datatype type;
        size_t bytes;
    } types[] = {{"float", MPI_FLOAT, 4},     {"double", MPI_DOUBLE, 8},     {"int32", MPI_INT32_T, 4},
                 {"int64", MPI_INT64_T, 8},   {"uint32", MPI_UINT32_T, 4},   {"uint64", MPI_UINT64_T, 8}};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); ++i) {
        if (0 == strcmp(name, types[i].name)) {
            o->type = types[i].type;
            o->type_name = types[i].name;
            o->element = types[i].bytes;
            return;
        }
    }
    fail("unknown type", name);
}

static void set_op(bench_options_t *o, const char *name)
{
    const struct {
        const char *name;
        MPI_Op op;
    } ops[] = {{"sum", MPI_SUM}, {"prod", MPI_PROD}, {"min", MPI_MIN}, {"max", MPI_MAX}};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); ++i) {
        if (0 == strcmp(name, ops[i].name)) {
            o->op = ops[i].op;
            o->op_name = ops[i].name;
            return;
        }
    }
    fail("unknown operation", name);
}

/* What a single option cannot know. */
static void check_together(bench_options_t *o)
{
    if (GPU_KINDS == o->memory) {
        fail("unknown kind of buffers", NULL);
    }
    o->min = o->min < o->element ? o->element : o->min;
    if (o->max < o->min || o->max / o->element > INT_MAX) {
        fail("--max is below --min, or has more elements than MPI_Allreduce can count", NULL);
    }
    if (o->reference && (MPI_FLOAT != o->type || MPI_SUM != o->op || gpu_kind_is_host(o->memory))) {
        fail("--reference is for sums of floats in device memory", NULL);
    }
    if (o->reference && test.size > BENCH_MAX_RANKS) {
        fail("--reference is for up to 16 ranks", NULL);
    }
}

static void keep_command(int argc, char **argv, bench_options_t *o)
{
    size_t used = 0;

    for (int i = 1; i < argc && used < sizeof(o->command); ++i) {
        used += (size_t) snprintf(o->command + used, sizeof(o->command) - used, "%s%s", 1 == i ? "" : " ", argv[i]);
    }
}

void bench_read_options(int argc, char **argv, bench_options_t *o)
{
    enum { MIN = 1, MAX, STEP, TYPE, OP, BUFFERS, IN_PLACE, ROTATE, BASELINE, BASELINE_MAX, REFERENCE, ACTIVATE, TIME, ITERATIONS,
           NO_CHECK, CSV, JSON, HELP };
    static const struct option names[] = {
        {"min", 1, NULL, MIN},           {"max", 1, NULL, MAX},           {"step", 1, NULL, STEP},
        {"type", 1, NULL, TYPE},         {"op", 1, NULL, OP},             {"buffers", 1, NULL, BUFFERS},
        {"in-place", 0, NULL, IN_PLACE}, {"rotate", 1, NULL, ROTATE},     {"baseline", 0, NULL, BASELINE},
        {"baseline-max", 1, NULL, BASELINE_MAX},                          {"reference", 0, NULL, REFERENCE},
        {"activate", 0, NULL, ACTIVATE},
        {"time", 1, NULL, TIME},         {"iterations", 1, NULL, ITERATIONS}, {"no-check", 0, NULL, NO_CHECK},
        {"csv", 1, NULL, CSV},           {"json", 1, NULL, JSON},         {"help", 0, NULL, HELP},
        {NULL, 0, NULL, 0}};

    *o = (bench_options_t){.min = 8, .max = 64 << 20, .step = 2, .baseline_max = 16 << 20, .seconds = 0.2,
                           .memory = GPU_DEVICE, .check = true, .rotate = 1};
    set_type(o, "float");
    set_op(o, "sum");
    keep_command(argc, argv, o);
    opterr = 0;
    for (int c; -1 != (c = getopt_long(argc, argv, "", names, NULL));) {
        switch (c) {
        case MIN: o->min = bytes_of(optarg); break;
        case MAX: o->max = bytes_of(optarg); break;
        case STEP: o->step = (size_t) count_of(optarg, 2, 1 << 20); break;
        case TYPE: set_type(o, optarg); break;
        case OP: set_op(o, optarg); break;
        case BUFFERS: o->memory = gpu_kind_find(optarg); break;
        case IN_PLACE: o->in_place = true; break;
        case ROTATE: o->rotate = count_of(optarg, 1, 64); break;
        case BASELINE: o->baseline = true; break;
        case BASELINE_MAX: o->baseline_max = bytes_of(optarg); break;
        case REFERENCE: o->reference = true; break;
        case ACTIVATE: o->activate = true; break;
        case TIME: o->seconds = seconds_of(optarg); break;
        case ITERATIONS: o->iterations = count_of(optarg, 1, 10000000); break;
        case NO_CHECK: o->check = false; break;
        case CSV: o->csv = optarg; break;
        case JSON: o->json = optarg; break;
        case HELP: end(stdout, 0, usage, NULL); break;
        default: fail("unknown option", argv[optind - 1]); break;
        }
    }
    if (optind < argc) {
        fail("unknown argument", argv[optind]);
    }
    check_together(o);
}
