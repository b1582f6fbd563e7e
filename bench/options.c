#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "car_bench: latency of blocking MPI_Allreduce on CUDA buffers, by message size\n"
    "  mpirun -n RANKS car_bench [OPTIONS]\n"
    "  --min BYTES, --max BYTES    sizes, suffixes k, m, g (default 8 to 64m)\n"
    "  --step FACTOR               from one size to the next (default 2)\n"
    "  --type float|double|int32|int64|uint32|uint64     --op sum|prod|min|max\n"
    "  --buffers device|managed|pool|vmm|host|registered (default device)\n"
    "  --in-place                  MPI_IN_PLACE\n"
    "  --rotate N                  use N pairs of buffers in turn, so that caches do not flatter (default 1)\n"
    "  --baseline                  also the same Open MPI without coll/car, in turns, up to --baseline-max (default 16m)\n"
    "  --time SECONDS              per size and implementation (default 0.2); --iterations N instead of that\n"
    "  --no-check                  do not check results\n"
    "  --csv FILE, --json FILE     also write the figures there\n";

static void fail(const char *what, const char *value)
{
    if (0 == test.rank) {
        fprintf(stderr, "car_bench: %s%s%s\n%s", what, NULL == value ? "" : ": ", NULL == value ? "" : value, usage);
    }
    MPI_Finalize();
    exit(2);
}

static size_t bytes_of(const char *text)
{
    char *end;
    const double number = strtod(text, &end);
    size_t unit = 1;

    switch (*end) {
    case 'g':
    case 'G':
        unit <<= 10; /* fall through */
    case 'm':
    case 'M':
        unit <<= 10; /* fall through */
    case 'k':
    case 'K':
        unit <<= 10;
        ++end;
        break;
    default:
        break;
    }
    if (end == text || '\0' != *end || number < 1) {
        fail("not a number of bytes", text);
    }
    return (size_t) (number * (double) unit);
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

void bench_read_options(int argc, char **argv, bench_options_t *o)
{
    enum { MIN = 1, MAX, STEP, TYPE, OP, BUFFERS, IN_PLACE, ROTATE, BASELINE, BASELINE_MAX, TIME, ITERATIONS, NO_CHECK,
           CSV, JSON, HELP };
    static const struct option names[] = {
        {"min", 1, NULL, MIN},           {"max", 1, NULL, MAX},           {"step", 1, NULL, STEP},
        {"type", 1, NULL, TYPE},         {"op", 1, NULL, OP},             {"buffers", 1, NULL, BUFFERS},
        {"in-place", 0, NULL, IN_PLACE}, {"rotate", 1, NULL, ROTATE},     {"baseline", 0, NULL, BASELINE},
        {"baseline-max", 1, NULL, BASELINE_MAX},                          {"time", 1, NULL, TIME},
        {"iterations", 1, NULL, ITERATIONS},                              {"no-check", 0, NULL, NO_CHECK},
        {"csv", 1, NULL, CSV},           {"json", 1, NULL, JSON},         {"help", 0, NULL, HELP},
        {NULL, 0, NULL, 0}};

    *o = (bench_options_t){.min = 8, .max = 64 << 20, .step = 2, .baseline_max = 16 << 20, .seconds = 0.2,
                           .memory = GPU_DEVICE, .check = true, .rotate = 1};
    set_type(o, "float");
    set_op(o, "sum");
    opterr = 0;
    for (int c; -1 != (c = getopt_long(argc, argv, "", names, NULL));) {
        switch (c) {
        case MIN: o->min = bytes_of(optarg); break;
        case MAX: o->max = bytes_of(optarg); break;
        case STEP: o->step = (size_t) atoi(optarg); break;
        case TYPE: set_type(o, optarg); break;
        case OP: set_op(o, optarg); break;
        case BUFFERS: o->memory = gpu_kind_find(optarg); break;
        case IN_PLACE: o->in_place = true; break;
        case ROTATE: o->rotate = atoi(optarg); break;
        case BASELINE: o->baseline = true; break;
        case BASELINE_MAX: o->baseline_max = bytes_of(optarg); break;
        case TIME: o->seconds = atof(optarg); break;
        case ITERATIONS: o->iterations = atoi(optarg); break;
        case NO_CHECK: o->check = false; break;
        case CSV: o->csv = optarg; break;
        case JSON: o->json = optarg; break;
        case HELP: fail("help", NULL); break;
        default: fail("unknown option", argv[optind - 1]); break;
        }
    }
    if (optind < argc) {
        fail("unknown argument", argv[optind]);
    }
    if (GPU_KINDS == o->memory || o->step < 2 || o->rotate < 1 || o->rotate > 64 || o->seconds <= 0 || o->iterations < 0) {
        fail("an option's value is out of range", NULL);
    }
    o->min = o->min < o->element ? o->element : o->min;
}
