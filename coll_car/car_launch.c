#include "car_launch.h"

#include <stdlib.h>
#include <string.h>

#include "car_clock.h"
#include "car_kernel_args.h"

static CUresult make_graph(const car_cuda_t *cuda, car_graph_t *g,
                           const CUDA_KERNEL_NODE_PARAMS *node, CUstream stream)
{
    CUresult result = cuda->GraphCreate(&g->graph, 0);
    if (CUDA_SUCCESS == result) {
        result = cuda->GraphAddKernelNode(&g->node, g->graph, NULL, 0, node);
    }
    if (CUDA_SUCCESS == result) {
        result = cuda->GraphInstantiateWithFlags(&g->exec, g->graph, 0);
    }
    if (CUDA_SUCCESS == result) {
        result = cuda->GraphUpload(g->exec, stream);
    }
    if (CUDA_SUCCESS != result) {
        car_graph_destroy(cuda, g);
    }
    return result;
}

/* What is foreseen fits, and has no padding, whose bytes would be anything. */
#define CAR_FORESEEABLE(type, bytes)                                                               \
    _Static_assert(sizeof(type) == (bytes) && (bytes) <= CAR_FORESEEN_BYTES, #type)

CAR_FORESEEABLE(car_elements_t, 16);
CAR_FORESEEABLE(car_kernel_args_t, 16 + 8 * (3 + CAR_MAX_RANKS + 2) + 4 * 12 + 8);
CAR_FORESEEABLE(car_fold_args_t, 16 + 8 * (2 * CAR_MAX_RANKS + 2) + 16);

static bool is_foreseen(const car_foreseen_t *foreseen, const car_graph_t *graph,
                        const car_launch_t *launch)
{
    const car_launch_t *next = &foreseen->launch;

    return graph == foreseen->graph && launch->function == next->function
           && launch->blocks == next->blocks && launch->threads == next->threads
           && launch->bytes == next->bytes
           && 0 == memcmp(launch->argument, foreseen->argument, launch->bytes);
}

static CUDA_KERNEL_NODE_PARAMS node_of(const car_launch_t *launch, void **parameters)
{
    return (CUDA_KERNEL_NODE_PARAMS){.func = launch->function,
                                     .gridDimX = launch->blocks,
                                     .gridDimY = 1,
                                     .gridDimZ = 1,
                                     .blockDimX = launch->threads,
                                     .blockDimY = 1,
                                     .blockDimZ = 1,
                                     .kernelParams = parameters};
}

/*
 * A graph of one node costs less to launch than a kernel: 5.6 for 7.3 us on two H100 (reference
 * measurements).
 */
CUresult car_launch(const car_cuda_t *cuda, car_launch_how_t how, car_graph_t *graph,
                    const car_launch_t *launch, car_foreseen_t *foreseen, CUstream stream)
{
    void *parameters[] = {launch->argument};
    bool set = false;

    if (CAR_LAUNCH_PLAIN == how) {
        return cuda->LaunchKernel(launch->function, launch->blocks, 1, 1, launch->threads, 1, 1, 0,
                                  stream, parameters, NULL);
    }
    if (NULL != foreseen) {
        foreseen->again = is_foreseen(foreseen, graph, launch);
        set = foreseen->again && foreseen->set;
        foreseen->graph = NULL;
    }
    if (!set) {
        const CUDA_KERNEL_NODE_PARAMS node = node_of(launch, parameters);
        const CUresult result =
            NULL == graph->exec
                ? make_graph(cuda, graph, &node, stream)
                : cuda->GraphExecKernelNodeSetParams(graph->exec, graph->node, &node);
        if (CUDA_SUCCESS != result) {
            return result;
        }
    }
    return cuda->GraphLaunch(graph->exec, stream);
}

void car_launch_foresee(car_foreseen_t *foreseen, car_graph_t *graph, const car_launch_t *next)
{
    if (NULL == graph->exec || next->bytes > CAR_FORESEEN_BYTES) {
        return;
    }
    foreseen->graph = graph;
    foreseen->launch = *next;
    foreseen->launch.argument = foreseen->argument;
    foreseen->set = false;
    memcpy(foreseen->argument, next->argument, next->bytes);
}

void car_launch_prepare(const car_cuda_t *cuda, car_foreseen_t *foreseen)
{
    void *parameters[] = {foreseen->argument};

    if (!car_launch_wants_preparing(foreseen)) {
        return;
    }
    const CUDA_KERNEL_NODE_PARAMS node = node_of(&foreseen->launch, parameters);
    foreseen->set = CUDA_SUCCESS
                    == cuda->GraphExecKernelNodeSetParams(foreseen->graph->exec,
                                                          foreseen->graph->node, &node);
    foreseen->again = foreseen->set;
}

void car_graph_destroy(const car_cuda_t *cuda, car_graph_t *graph)
{
    if (NULL != graph->exec) {
        (void) cuda->GraphExecDestroy(graph->exec);
    }
    if (NULL != graph->graph) {
        (void) cuda->GraphDestroy(graph->graph);
    }
    *graph = (car_graph_t){0};
}

/* --- which way is quicker --------------------------------------------------------------------- */

/*
 * So many launches of each way are timed, an odd number; the first of each, which makes the graph
 * and loads the kernel, is not.
 */
#define CAR_TRIES 9

/*
 * A launch that is not heard of in time is no measure of launching: others use the GPU. Loading
 * takes longer.
 */
#define CAR_TRY_NS 1000000
#define CAR_LOAD_NS 20000000

/* Plain launches have to be quicker by one part in so many. */
#define CAR_PLAIN_GAIN 10

/*
 * Nanoseconds until the host has heard of the end; 0 where the launch fails, and *ended false where
 * it is not heard of in time.
 */
static uint64_t try_once(car_device_t *device, car_launch_how_t how, car_graph_t *graph,
                         CUstream stream, int word, uint32_t ticket, uint64_t patience, bool *ended)
{
    const car_host_word_t *line = &device->host_words[word];
    const uint64_t start = car_now();
    uint64_t now;
    uint32_t left;
    car_fold_args_t nothing = {.done = (uint64_t *) (uintptr_t) (device->host_words_on_device
                                                                 + (size_t) word * sizeof(*line)),
                               .ticket = ticket,
                               .sources = 1};

    const car_launch_t launch = {device->functions[CAR_FOLD][0], 1, 32, &nothing, sizeof(nothing)};
    if (CUDA_SUCCESS != car_launch(device->cuda, how, graph, &launch, NULL, stream)) {
        return 0;
    }
    do {
        *ended = car_host_word_reached(line, ticket, 1, &left);
        now = car_now();
    } while (!*ended && now - start < patience);
    return now - start + (now == start);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

car_launch_how_t car_launch_choose(car_device_t *device, CUstream stream, int word, bool *ended)
{
    enum { WAYS = CAR_LAUNCH_AUTO };
    uint64_t times[WAYS][CAR_TRIES] = {{0}};
    bool works[WAYS] = {[CAR_LAUNCH_GRAPH] = true, [CAR_LAUNCH_PLAIN] = true};
    car_graph_t graph = {0};
    uint32_t ticket = 0;

    *ended = true;
    for (int i = -1; i < CAR_TRIES && *ended; ++i) {
        for (int how = 0; how < WAYS && *ended; ++how) {
            const uint64_t patience = i < 0 ? CAR_LOAD_NS : CAR_TRY_NS;
            const uint64_t time = works[how] ? try_once(device, (car_launch_how_t) how, &graph,
                                                        stream, word, ++ticket, patience, ended)
                                             : 0;
            works[how] = works[how] && 0 != time;
            if (i >= 0) {
                times[how][i] = time;
            }
        }
    }
    if (*ended) {
        car_graph_destroy(device->cuda, &graph); /* else the driver may still need it */
    }
    if (!works[CAR_LAUNCH_GRAPH] || !works[CAR_LAUNCH_PLAIN] || !*ended) {
        return works[CAR_LAUNCH_PLAIN] && !works[CAR_LAUNCH_GRAPH] ? CAR_LAUNCH_PLAIN
                                                                   : CAR_LAUNCH_GRAPH;
    }
    for (int how = 0; how < WAYS; ++how) {
        qsort(times[how], CAR_TRIES, sizeof(times[how][0]), by_size);
    }
    const uint64_t by_graph = times[CAR_LAUNCH_GRAPH][CAR_TRIES / 2],
                   plain = times[CAR_LAUNCH_PLAIN][CAR_TRIES / 2];
    return plain + plain / CAR_PLAIN_GAIN < by_graph ? CAR_LAUNCH_PLAIN : CAR_LAUNCH_GRAPH;
}
