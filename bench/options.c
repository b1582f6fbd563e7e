#include "bench.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_kernel_args.h"

static const char usage[] =
    "car_bench: latency of MPI_Allreduce on CUDA buffers, by message size\n"
    "  mpirun -n RANKS car_bench [OPTIONS]\n"
    "What is measured\n"
    "  --min BYTES, --max BYTES    sizes, suffixes k, m, g (default 8 to 64m)\n"
    "  --step FACTOR               from one size to the next (default 2)\n"
    "  --type NAME, --op NAME      of MPI, as MPI_FLOAT or float, MPI_SUM or sum (the default); "
    "\"list\" prints all\n"
    "  --buffers device|managed|pool|vmm|other|host|registered|mapped (default device)\n"
    "  --in-place                  MPI_IN_PLACE\n"
    "  --form LIST                 of blocking (default), nonblocking, persistent, separated by "
    "commas: in turns in this run;\n"
    "                              ratios are to the first\n"
    "  --rotate N                  use N pairs of buffers in turn, so that caches do not flatter "
    "(default 1)\n"
    "  --no-gpu                    never touch CUDA, as a program for CPUs; host buffers, and no "
    "floor\n"
    "  --activate                  one call with device memory first: what a GPU program's host "
    "buffers get\n"
    "  --time SECONDS              per size and way (default 0.2); --iterations N instead of that\n"
    "  --no-check                  do not check results; --check-max BYTES: only up to this size\n"
    "What it is compared with, in turns\n"
    "  --baseline                  the same Open MPI without coll/car, up to --baseline-max "
    "(default 16m)\n"
    "  --reference                 the inference engines' way: copy in, one kernel, stream "
    "synchronise; float sum\n"
    "  --nccl [LIBRARY]            NCCL, multicast off (default libnccl.so.2); one rank per GPU\n"
    "What else is shown\n"
    "  --overlap                   how much of MPI_Iallreduce a computation hides, on the host and "
    "on the GPU;\n"
    "                              --probes N: calls of MPI_Test meanwhile (default 10)\n"
    "  --phases                    microseconds of a call in post, launch, wait and other, where "
    "coll/car counts them\n"
    "  --parts                     what a small call cannot do without: the least exchange by a "
    "launch, a hop of packets, a bell\n"
    "  --links FILE                also the bandwidth between all pairs of GPUs, and of all at "
    "once, as CSV\n"
    "  --csv FILE, --json FILE     also write the figures there; --plot FILE.svg: draw them (needs "
    "gnuplot)\n";

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

void bench_refuse(const char *what, const char *why)
{
    if (0 == test.rank) {
        fprintf(stderr, "car_bench: %s%s%s\n", what, NULL == why ? "" : ": ",
                NULL == why ? "" : why);
    }
    MPI_Finalize();
    exit(2);
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

/* --- types, operations, forms ----------------------------------------------------------------- */

static void list_types(void)
{
    for (size_t i = 0; 0 == test.rank && i < DATA_TYPES; ++i) {
        int offered = 0;
        for (data_op_t op = 0; op < DATA_OPS; ++op) {
            if (data_offered(&data_types[i], op)) {
                printf("%s%s %s", 0 == offered ? data_types[i].mpi_name : "",
                       0 == offered ? ":" : "", data_op_name(op));
                ++offered;
            }
        }
        printf("%s", 0 == offered ? "" : "\n");
    }
    end(stdout, 0, "", NULL);
}

static void set_type(bench_options_t *o, const char *name)
{
    if (0 == strcmp(name, "list")) {
        list_types();
    }
    o->type = bench_find_type(name);
    if (NULL == o->type) {
        fail("unknown type", name);
    }
}

static void set_op(bench_options_t *o, const char *name)
{
    if (0 == strcmp(name, "list")) {
        list_types();
    }
    o->op = bench_find_op(name);
    if (DATA_OPS == o->op) {
        fail("unknown operation", name);
    }
}

static void set_forms(bench_options_t *o, const char *list)
{
    bool first = true;

    for (bench_way_t form = 0; form < BENCH_FORMS; ++form) {
        o->wanted[form] = false;
    }
    while ('\0' != *list) {
        const size_t length = strcspn(list, ",");
        bench_way_t form = 0;
        while (form < BENCH_FORMS
               && (length != strlen(bench_way_name(form))
                   || 0 != strncmp(list, bench_way_name(form), length))) {
            ++form;
        }
        if (BENCH_FORMS == form) {
            fail("unknown form", list);
        }
        o->wanted[form] = true;
        o->main = first ? form : o->main;
        first = false;
        list += length + (',' == list[length]);
    }
    if (first) {
        fail("--form needs a form", NULL);
    }
}

/* What a single option cannot know. */
static void check_together(bench_options_t *o)
{
    if (GPU_KINDS == o->memory) {
        fail("unknown kind of buffers", NULL);
    }
    if (o->no_gpu && (GPU_HOST != o->memory || o->activate || o->overlap || NULL != o->links)) {
        fail("--no-gpu is for --buffers host, without what needs a GPU", NULL);
    }
    if (!data_offered(o->type, o->op)) {
        fail("MPI does not allow, or this Open MPI does not have, the operation on the type; "
             "--type list prints all",
             o->type->mpi_name);
    }
    o->min = o->min < o->type->bytes ? o->type->bytes : o->min;
    if (o->max < o->min || o->max / o->type->bytes > INT_MAX) {
        fail("--max is below --min, or has more elements than MPI_Allreduce can count", NULL);
    }
    if (o->wanted[BENCH_REFERENCE]
        && (MPI_FLOAT != o->type->type || DATA_SUM != o->op || gpu_kind_is_host(o->memory))) {
        fail("--reference is for sums of floats in device memory", NULL);
    }
    if ((o->wanted[BENCH_REFERENCE] || NULL != o->links) && test.size > BENCH_MAX_RANKS) {
        fail("--reference and --links are for up to 16 ranks", NULL);
    }
    int can_plot = NULL == o->plot || 0 != test.rank || bench_can_plot();
    MPI_Bcast(&can_plot, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (!can_plot) {
        bench_refuse(
            "--plot needs gnuplot, which is not on PATH (Debian, Ubuntu: apt install gnuplot-nox)",
            NULL);
    }
}

static void keep_command(int argc, char **argv, bench_options_t *o)
{
    size_t used = 0;

    for (int i = 1; i < argc && used < sizeof(o->command); ++i) {
        used += (size_t) snprintf(o->command + used, sizeof(o->command) - used, "%s%s",
                                  1 == i ? "" : " ", argv[i]);
    }
}

/* An option's argument that may be left out, and may stand as a word of its own all the same. */
static const char *optional_word(int argc, char **argv, const char *otherwise)
{
    if (NULL != optarg) {
        return optarg;
    }
    return optind < argc && '-' != argv[optind][0] ? argv[optind++] : otherwise;
}

void bench_read_options(int argc, char **argv, bench_options_t *o)
{
    enum {
        MIN = 1,
        MAX,
        STEP,
        TYPE,
        OP,
        BUFFERS,
        IN_PLACE,
        FORM,
        ROTATE,
        BASELINE,
        BASELINE_MAX,
        REFERENCE,
        NCCL,
        ACTIVATE,
        NO_GPU,
        OVERLAP,
        PROBES,
        PHASES,
        PARTS,
        TIME,
        ITERATIONS,
        NO_CHECK,
        CHECK_MAX,
        LINKS,
        CSV,
        JSON,
        PLOT,
        HELP
    };
    static const struct option names[] = {{"min", 1, NULL, MIN},
                                          {"max", 1, NULL, MAX},
                                          {"step", 1, NULL, STEP},
                                          {"type", 1, NULL, TYPE},
                                          {"op", 1, NULL, OP},
                                          {"buffers", 1, NULL, BUFFERS},
                                          {"in-place", 0, NULL, IN_PLACE},
                                          {"form", 1, NULL, FORM},
                                          {"rotate", 1, NULL, ROTATE},
                                          {"baseline", 0, NULL, BASELINE},
                                          {"baseline-max", 1, NULL, BASELINE_MAX},
                                          {"reference", 0, NULL, REFERENCE},
                                          {"nccl", 2, NULL, NCCL},
                                          {"activate", 0, NULL, ACTIVATE},
                                          {"no-gpu", 0, NULL, NO_GPU},
                                          {"overlap", 0, NULL, OVERLAP},
                                          {"probes", 1, NULL, PROBES},
                                          {"phases", 0, NULL, PHASES},
                                          {"parts", 0, NULL, PARTS},
                                          {"time", 1, NULL, TIME},
                                          {"iterations", 1, NULL, ITERATIONS},
                                          {"no-check", 0, NULL, NO_CHECK},
                                          {"check-max", 1, NULL, CHECK_MAX},
                                          {"links", 1, NULL, LINKS},
                                          {"csv", 1, NULL, CSV},
                                          {"json", 1, NULL, JSON},
                                          {"plot", 1, NULL, PLOT},
                                          {"help", 0, NULL, HELP},
                                          {NULL, 0, NULL, 0}};

    *o = (bench_options_t){.min = 8,
                           .max = 64 << 20,
                           .step = 2,
                           .baseline_max = 16 << 20,
                           .check_max = SIZE_MAX,
                           .seconds = 0.2,
                           .memory = GPU_DEVICE,
                           .rotate = 1,
                           .probes = 10};
    set_type(o, "float");
    set_op(o, "sum");
    set_forms(o, "blocking");
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
        case FORM: set_forms(o, optarg); break;
        case ROTATE: o->rotate = count_of(optarg, 1, 64); break;
        case BASELINE: o->wanted[BENCH_BASELINE] = true; break;
        case BASELINE_MAX: o->baseline_max = bytes_of(optarg); break;
        case REFERENCE: o->wanted[BENCH_REFERENCE] = true; break;
        case NCCL:
            o->wanted[BENCH_NCCL] = true;
            o->nccl_library = optional_word(argc, argv, "libnccl.so.2");
            break;
        case ACTIVATE: o->activate = true; break;
        case NO_GPU: o->no_gpu = true; break;
        case OVERLAP: o->overlap = true; break;
        case PROBES: o->probes = count_of(optarg, 0, 100000); break;
        case PHASES: o->phases = true; break;
        case PARTS: o->parts = true; break;
        case TIME: o->seconds = seconds_of(optarg); break;
        case ITERATIONS: o->iterations = count_of(optarg, 1, 10000000); break;
        case NO_CHECK: o->check_max = 0; break;
        case CHECK_MAX: o->check_max = bytes_of(optarg); break;
        case LINKS: o->links = optarg; break;
        case CSV: o->csv = optarg; break;
        case JSON: o->json = optarg; break;
        case PLOT: o->plot = optarg; break;
        case HELP: end(stdout, 0, usage, NULL); break;
        default: fail("unknown option", argv[optind - 1]); break;
        }
    }
    if (optind < argc) {
        fail("unknown argument", argv[optind]);
    }
    check_together(o);
}

void bench_prepare_environment(int argc, char **argv)
{
    for (int i = 1; i < argc; ++i) {
        if (0 == strcmp(argv[i], "--phases")) {
            setenv("OMPI_MCA_coll_car_timing", "1", 0);
        }
    }
}
