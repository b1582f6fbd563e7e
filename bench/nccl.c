/*
 * NCCL, for comparison in the same run, where its library is found at run time. One communicator of
 * all ranks, a stream of its own; a call ends when the stream has been waited for, as its users'
 * calls do.
 *
 * NVLink multicast stays off (NCCL_NVLS_ENABLE=0): on machines whose GPUs are shared between users,
 * a multicast object that is not given back puts all of them out of service.
 */
#include "bench.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The part of NCCL's ABI that is used, the same since NCCL 2.0 (nccl.h; NCCL User Guide, "NCCL
 * API").
 */
typedef struct {
    char internal[128];
} nccl_id_t;
typedef struct ncclComm *nccl_comm_t;
enum { NCCL_SUCCESS = 0 };

struct bench_nccl {
    void *library;
    int (*get_version)(int *);
    int (*get_unique_id)(nccl_id_t *);
    int (*comm_init_rank)(nccl_comm_t *, int, nccl_id_t, int);
    int (*all_reduce)(const void *, void *, size_t, int, int, nccl_comm_t, CUstream);
    int (*comm_destroy)(nccl_comm_t);
    const char *(*get_error_string)(int);
    nccl_comm_t comm;
    CUstream stream;
    int type, op, version;
};

/* ncclDataType_t and ncclRedOp_t; -1 where NCCL has none. */
static int nccl_type(data_element_t element)
{
    static const data_element_t elements[] = {DATA_I8,  DATA_U8,  DATA_I32, DATA_U32, DATA_I64,
                                              DATA_U64, DATA_F16, DATA_F32, DATA_F64};

    for (int i = 0; i < (int) (sizeof(elements) / sizeof(elements[0])); ++i) {
        if (elements[i] == element) {
            return i;
        }
    }
    return -1;
}

static int nccl_op(data_op_t op)
{
    return DATA_SUM == op ? 0 : DATA_PROD == op ? 1 : DATA_MAX == op ? 2 : DATA_MIN == op ? 3 : -1;
}

static void ok(const bench_nccl_t *n, int result, const char *call)
{
    if (NCCL_SUCCESS != result) {
        fprintf(stderr, "car_bench: rank %d: %s: %s\n", test.rank, call,
                n->get_error_string(result));
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

/* What is true on all ranks. */
static bool everywhere(bool here)
{
    int all = here;

    MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    return 0 != all;
}

/* The setting in the environment comes before what NCCL finds in its files. */
static bool multicast_off(void)
{
    setenv("NCCL_NVLS_ENABLE", "0", 0);
    return 0 == strcmp(getenv("NCCL_NVLS_ENABLE"), "0");
}

static bool load(bench_nccl_t *n, const char *path)
{
    const struct {
        void *function;
        const char *name;
    } symbols[] = {
        {&n->get_version, "ncclGetVersion"},      {&n->get_unique_id, "ncclGetUniqueId"},
        {&n->comm_init_rank, "ncclCommInitRank"}, {&n->all_reduce, "ncclAllReduce"},
        {&n->comm_destroy, "ncclCommDestroy"},    {&n->get_error_string, "ncclGetErrorString"}};

    n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; NULL != n->library && i < sizeof(symbols) / sizeof(symbols[0]); ++i) {
        void *address = dlsym(n->library, symbols[i].name);
        if (NULL == address) {
            return false;
        }
        memcpy(symbols[i].function, &address, sizeof(address));
    }
    return NULL != n->library;
}

/*
 * NULL, or on all ranks why not: NCCL is refused by some machines and drivers, and then the rest is
 * measured without.
 */
static const char *connect_ranks(bench_nccl_t *n)
{
    static char why[120];
    nccl_id_t id;

    if (0 == test.rank) {
        ok(n, n->get_unique_id(&id), "ncclGetUniqueId");
    }
    MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, MPI_COMM_WORLD);
    const int result = n->comm_init_rank(&n->comm, test.size, id, test.rank);
    snprintf(why, sizeof(why), "ncclCommInitRank: %.80s", n->get_error_string(result));
    if (!everywhere(NCCL_SUCCESS == result)) {
        return why;
    }
    ok(n, n->get_version(&n->version), "ncclGetVersion");
    GPU_OK(gpu.StreamCreate(&n->stream, CU_STREAM_NON_BLOCKING));
    return NULL;
}

bench_nccl_t *bench_nccl_new(const bench_options_t *o, const bench_machine_t *m, const char **why)
{
    bench_nccl_t *n = calloc(1, sizeof(*n));

    n->type = nccl_type(o->type->element);
    n->op = nccl_op(o->op);
    *why = m->ranks_per_gpu > 1          ? "it takes one rank per GPU"
           : gpu_kind_is_host(o->memory) ? "it takes device memory"
           : n->type < 0 || n->op < 0    ? "it has no such type or operation"
           : !everywhere(multicast_off())
               ? "NCCL_NVLS_ENABLE is set to something else than 0, and multicast is not to be used"
           : !everywhere(load(n, o->nccl_library))
               ? "its library is not found; --nccl PATH says where it is"
               : connect_ranks(n);
    if (NULL != *why) {
        free(n);
        return NULL;
    }
    return n;
}

void bench_nccl_allreduce(bench_nccl_t *n, const void *input, void *output, size_t count)
{
    ok(n, n->all_reduce(input, output, count, n->type, n->op, n->comm, n->stream), "ncclAllReduce");
    GPU_OK(gpu.StreamSynchronize(n->stream));
}

int bench_nccl_version(const bench_nccl_t *n)
{
    return n->version;
}

/* The library stays, here and after a failure: it may have threads that end with the process. */
void bench_nccl_free(bench_nccl_t *n)
{
    ok(n, n->comm_destroy(n->comm), "ncclCommDestroy");
    GPU_OK(gpu.StreamDestroy(n->stream));
    free(n);
}
