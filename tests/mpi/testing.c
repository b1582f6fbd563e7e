#include "testing.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

test_t test;

#define FAILURES_SHOWN 8

static atomic_int failures; /* several threads may check */
static int arguments;
static char **argument;

/* --- options ---------------------------------------------------------------------------------- */

static bool listed(const char *name, const char *list, char between)
{
    const size_t length = strlen(name);

    for (const char *p = list; NULL != (p = strstr(p, name)); ++p) {
        if ((p == list || between == p[-1]) && ('\0' == p[length] || between == p[length])) {
            return true;
        }
    }
    return false;
}

bool test_listed(const char *name, const char *list)
{
    return listed(name, list, ',');
}

void test_options(int argc, char **argv, const char *options)
{
    arguments = argc;
    argument = argv;
    for (int i = 1; i < argc; i += 2) {
        if (0 != strncmp(argv[i], "--", 2) || !listed(argv[i] + 2, options, ' ') || i + 1 == argc) {
            fprintf(stderr, "%s: options with a value each: %s\n", argv[0], options);
            exit(2);
        }
    }
}

const char *test_option(const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < arguments; i += 2) {
        if (0 == strcmp(argument[i] + 2, name)) {
            return argument[i + 1];
        }
    }
    return otherwise;
}

long test_number(const char *name, long otherwise)
{
    const char *text = test_option(name, NULL);

    return NULL == text ? otherwise : atol(text);
}

const char *test_mca(const char *parameter, const char *otherwise)
{
    char name[80];

    snprintf(name, sizeof(name), "OMPI_MCA_coll_car_%s", parameter);
    const char *value = getenv(name);
    return NULL == value ? otherwise : value;
}

/* --- counters --------------------------------------------------------------------------------- */

enum {
#define COUNTER(name, sentence) COUNTER_##name,
    CAR_COUNTERS(COUNTER)
#undef COUNTER
    COUNTERS
};

static MPI_T_pvar_session session;
static MPI_T_pvar_handle handles[COUNTERS];

static bool open_counter(int which, const char *name)
{
    int index, count;

    return MPI_SUCCESS == MPI_T_pvar_get_index(name, MPI_T_PVAR_CLASS_COUNTER, &index)
           && MPI_SUCCESS == MPI_T_pvar_handle_alloc(session, index, NULL, &handles[which], &count)
           && 1 == count;
}

static void open_counters(void)
{
    int provided;

    /* After MPI_Init: 4.1.4 crashes at the end if it came before. */
    MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
    MPI_T_pvar_session_create(&session);
    test.counted = true;
#define COUNTER(name, sentence)                                                                    \
    test.counted = test.counted && open_counter(COUNTER_##name, "coll_car_" #name);
    CAR_COUNTERS(COUNTER)
#undef COUNTER
}

static unsigned long long read_counter(int which)
{
    unsigned long long value = 0;

    if (test.counted) {
        MPI_T_pvar_read(session, handles[which], &value);
    }
    return value;
}

car_counters_t test_counters(void)
{
    return (car_counters_t){
#define COUNTER(name, sentence) .name = read_counter(COUNTER_##name),
        CAR_COUNTERS(COUNTER)
#undef COUNTER
    };
}

car_counters_t test_since(const car_counters_t *before)
{
    const car_counters_t now = test_counters();

    return (car_counters_t){
#define COUNTER(name, sentence) .name = now.name - before->name,
        CAR_COUNTERS(COUNTER)
#undef COUNTER
    };
}

unsigned long long test_served(const car_counters_t *c)
{
    return c->calls_one_shot_push + c->calls_two_shot_push + c->calls_one_shot_pull
           + c->calls_two_shot + c->calls_zero_copy + c->calls_two_phase;
}

unsigned long long test_left(const car_counters_t *c)
{
    return c->calls_host + c->calls_host_small + c->calls_forwarded;
}

/* --- begin and end ---------------------------------------------------------------------------- */

void test_begin(int *argc, char ***argv, const char *name)
{
    test_begin_threads(argc, argv, name, MPI_THREAD_FUNNELED);
}

void test_begin_threads(int *argc, char ***argv, const char *name, int level)
{
    int provided;
    MPI_Comm node;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (0 != strcmp(name, "nocuda")) {
        gpu_load();
    }
    MPI_Init_thread(argc, argv, level, &provided);
    test.name = name;
    MPI_Comm_rank(MPI_COMM_WORLD, &test.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &test.size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &test.local_rank);
    MPI_Comm_free(&node);
    open_counters();
    if (provided < level) {
        test_skip("this Open MPI was built without such threads");
    }
}

void test_begin_without_world(const char *name, MPI_Comm all)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    test.name = name;
    MPI_Comm_rank(all, &test.rank);
    MPI_Comm_size(all, &test.size);
    test.local_rank = test.rank;
    open_counters();
}

void test_use_gpu(void)
{
    const char *why;

    if (!gpu_open(&why)) {
        test_skip(why);
    }
    gpu_use(test.local_rank % gpu_count());
}

static void finish(void)
{
    MPI_T_pvar_session_free(&session);
    MPI_T_finalize();
    MPI_Finalize();
}

void test_skip(const char *why)
{
    if (0 == test.rank) {
        printf("skip %s: %s\n", test.name, why);
    }
    finish();
    exit(0);
}

int test_end(const char *format, ...)
{
    int sum = 0, mine = failures;
    va_list arguments_left;

    MPI_Reduce(&mine, &sum, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Bcast(&sum, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (0 == test.rank && 0 == sum) {
        printf("ok %s: %d ranks, ", test.name, test.size);
        va_start(arguments_left, format);
        vprintf(format, arguments_left);
        va_end(arguments_left);
        printf("\n");
    } else if (0 == test.rank) {
        printf("FAILED %s: %d ranks, %d failures\n", test.name, test.size, sum);
    }
    finish();
    return 0 != sum;
}

int test_end_silently(void)
{
    const int mine = failures;

    finish();
    return 0 != mine;
}

bool test_check(bool holds, const char *file, int line, const char *condition, const char *format,
                ...)
{
    char text[512];
    va_list arguments_left;

    if (holds) {
        return true;
    }
    if (failures < FAILURES_SHOWN) {
        va_start(arguments_left, format);
        vsnprintf(text, sizeof(text), format, arguments_left);
        va_end(arguments_left);
        fprintf(stderr, "%s:%d: rank %d: %s does not hold: %s\n", file, line, test.rank, condition,
                text);
    }
    ++failures;
    return false;
}

int test_failures(void)
{
    return failures;
}

/* --- the rest --------------------------------------------------------------------------------- */

MPI_Comm test_without_car(MPI_Comm comm)
{
    MPI_Comm other;
    MPI_Info info;

    MPI_Info_create(&info);
    MPI_Info_set(info, "ompi_comm_coll_preference", "^car");
    MPI_Comm_dup_with_info(comm, info, &other);
    MPI_Info_free(&info);
    return other;
}

void *test_allocate(size_t bytes)
{
    void *memory = malloc(0 == bytes ? 1 : bytes);

    if (NULL == memory) {
        fprintf(stderr, "out of host memory\n");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return memory;
}

double test_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

uint64_t test_random(uint64_t seed, uint64_t n)
{
    uint64_t z = seed * UINT64_C(0xd1342543de82ef95) + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
