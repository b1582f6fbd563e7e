/*
 * The ways to an allreduce, each from its begin to the moment when the host knows that the output
 * is there.
 */
#include "bench.h"

#include <stdlib.h>

#include <mpi-ext.h>

static const struct {
    const char *name, *prefix;
} ways[BENCH_WAYS] = {
    [BENCH_BLOCKING] = {"blocking", ""},
    [BENCH_NONBLOCKING] = {"nonblocking", "nonblocking_"},
    [BENCH_PERSISTENT] = {"persistent", "persistent_"},
    [BENCH_BASELINE] = {"baseline", "baseline_"},
    [BENCH_REFERENCE] = {"reference", "reference_"},
    [BENCH_NCCL] = {"nccl", "nccl_"},
};

const char *bench_way_name(bench_way_t way)
{
    return ways[way].name;
}

const char *bench_way_prefix(bench_way_t way)
{
    return ways[way].prefix;
}

static void *output_of(const bench_call_t *c, int turn)
{
    return c->buffers->output[turn % c->options->rotate].address;
}

static const void *input_of(const bench_call_t *c, int turn)
{
    return c->options->in_place ? MPI_IN_PLACE
                                : c->buffers->input[turn % c->options->rotate].address;
}

/*
 * Open MPI 5.0 has it, though it says that it is MPI 3.1; 4.1 has it as an extension, if built with
 * that.
 */
static void persistent_init(const bench_call_t *c, int turn, MPI_Request *request)
{
#if OMPI_MAJOR_VERSION >= 5
    MPI_Allreduce_init(input_of(c, turn), output_of(c, turn), (int) c->buffers->count,
                       c->options->type->type, data_mpi_op(c->options->op), MPI_COMM_WORLD,
                       MPI_INFO_NULL, request);
#elif defined(OMPI_HAVE_MPI_EXT_PCOLLREQ)
    MPIX_Allreduce_init(input_of(c, turn), output_of(c, turn), (int) c->buffers->count,
                        c->options->type->type, data_mpi_op(c->options->op), MPI_COMM_WORLD,
                        MPI_INFO_NULL, request);
#else
    (void) c;
    (void) turn;
    *request = MPI_REQUEST_NULL;
    bench_refuse("this Open MPI has no persistent collectives", NULL);
#endif
}

void bench_call_new(bench_call_t *c, bench_way_t way, const bench_options_t *o,
                    const bench_peers_t *peers, const bench_buffers_t *buffers)
{
    *c = (bench_call_t){.way = way, .options = o, .peers = peers, .buffers = buffers};
    if (BENCH_PERSISTENT == way) {
        c->requests = malloc((size_t) o->rotate * sizeof(MPI_Request));
        for (int i = 0; i < o->rotate; ++i) {
            persistent_init(c, i, &c->requests[i]);
        }
    }
}

void bench_call_free(bench_call_t *c)
{
    for (int i = 0; NULL != c->requests && i < c->options->rotate; ++i) {
        MPI_Request_free(&c->requests[i]);
    }
    free(c->requests);
    c->requests = NULL;
}

MPI_Request bench_call_start(bench_call_t *c, int turn)
{
    MPI_Request request;

    MPI_Iallreduce(input_of(c, turn), output_of(c, turn), (int) c->buffers->count,
                   c->options->type->type, data_mpi_op(c->options->op), MPI_COMM_WORLD, &request);
    return request;
}

void bench_call_do(bench_call_t *c, int turn)
{
    const MPI_Comm comm = BENCH_BASELINE == c->way ? c->peers->baseline : MPI_COMM_WORLD;
    void *output = output_of(c, turn);
    const void *input = input_of(c, turn), *device_input = MPI_IN_PLACE == input ? output : input;
    MPI_Request request;

    switch (c->way) {
    case BENCH_NONBLOCKING:
        request = bench_call_start(c, turn);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        break;
    case BENCH_PERSISTENT:
        MPI_Start(&c->requests[turn % c->options->rotate]);
        MPI_Wait(&c->requests[turn % c->options->rotate], MPI_STATUS_IGNORE);
        break;
    case BENCH_REFERENCE:
        bench_reference_allreduce(c->peers->reference, device_input, output, c->buffers->count);
        break;
    case BENCH_NCCL:
        bench_nccl_allreduce(c->peers->nccl, device_input, output, c->buffers->count);
        break;
    default:
        MPI_Allreduce(input, output, (int) c->buffers->count, c->options->type->type,
                      data_mpi_op(c->options->op), comm);
        break;
    }
}
