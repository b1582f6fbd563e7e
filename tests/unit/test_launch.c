/*
 * Which way of launching is chosen, and what is set ahead of a launch: on a driver of our own whose
 * graphs and plain launches take what a test says, or fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "car_clock.h"
#include "car_kernel_args.h"
#include "car_launch.h"

static struct {
    unsigned int us[2]; /* that a launch takes, by car_launch_how_t */
    bool fails[2];
    bool never_ends;
    unsigned int slow_one; /* number of a launch that takes ten times as long; 0: none */
    unsigned int launches, sets;
    bool refuses; /* to set parameters */
    car_fold_args_t args; /* of the graph's node */
} driver;

static car_host_word_t words[2];

static CUresult run(car_launch_how_t how, const car_fold_args_t *args)
{
    const uint64_t end =
        car_now() + driver.us[how] * (++driver.launches == driver.slow_one ? 10000u : 1000u);

    if (driver.fails[how]) {
        return CUDA_ERROR_UNKNOWN;
    }
    while (car_now() < end) {
    }
    assert_int_equal(0, args->what.count);
    if (!driver.never_ends) {
        *(volatile uint64_t *) args->done = (uint64_t) args->ticket << 32;
    }
    return CUDA_SUCCESS;
}

static CUresult launch_kernel(CUfunction f, unsigned int x, unsigned int y, unsigned int z,
                              unsigned int tx, unsigned int ty, unsigned int tz,
                              unsigned int shared, CUstream stream, void **parameters, void **extra)
{
    (void) f, (void) y, (void) z, (void) ty, (void) tz, (void) shared, (void) stream, (void) extra;
    assert_true(1 == x && 32 == tx);
    return run(CAR_LAUNCH_PLAIN, parameters[0]);
}

static CUresult graph_create(CUgraph *graph, unsigned int flags)
{
    (void) flags;
    *graph = (CUgraph) &driver;
    return CUDA_SUCCESS;
}

static CUresult add_node(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t n,
                                 const CUDA_KERNEL_NODE_PARAMS *params)
{
    (void) graph, (void) after, (void) n;
    *node = (CUgraphNode) &driver;
    memcpy(&driver.args, params->kernelParams[0], sizeof(driver.args));
    return CUDA_SUCCESS;
}

static CUresult instantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    (void) graph, (void) flags;
    *exec = (CUgraphExec) &driver;
    return CUDA_SUCCESS;
}

static CUresult set_params(CUgraphExec exec, CUgraphNode node,
                           const CUDA_KERNEL_NODE_PARAMS *params)
{
    (void) exec, (void) node;
    ++driver.sets;
    if (driver.refuses) {
        return CUDA_ERROR_UNKNOWN;
    }
    memcpy(&driver.args, params->kernelParams[0], sizeof(driver.args));
    return CUDA_SUCCESS;
}

static CUresult launch_graph(CUgraphExec exec, CUstream stream)
{
    (void) exec, (void) stream;
    return run(CAR_LAUNCH_GRAPH, &driver.args);
}

static CUresult upload(CUgraphExec exec, CUstream stream)
{
    (void) exec, (void) stream;
    return CUDA_SUCCESS;
}
static CUresult destroy_exec(CUgraphExec exec) { (void) exec; return CUDA_SUCCESS; }
static CUresult destroy_graph(CUgraph graph) { (void) graph; return CUDA_SUCCESS; }

static const car_cuda_t cuda = {.LaunchKernel = launch_kernel,
                                .GraphCreate = graph_create,
                                .GraphAddKernelNode = add_node,
                                .GraphInstantiateWithFlags = instantiate,
                                .GraphUpload = upload,
                                .GraphExecKernelNodeSetParams = set_params,
                                .GraphLaunch = launch_graph,
                                .GraphExecDestroy = destroy_exec,
                                .GraphDestroy = destroy_graph};

static car_launch_how_t choose(unsigned int graph_us, unsigned int plain_us, bool *ended)
{
    car_device_t device = {.cuda = &cuda,
                           .host_words = words,
                           .host_words_on_device = (CUdeviceptr) (uintptr_t) words};

    driver.us[CAR_LAUNCH_GRAPH] = graph_us;
    driver.us[CAR_LAUNCH_PLAIN] = plain_us;
    return car_launch_choose(&device, NULL, 1, ended);
}

static int anew(void **state)
{
    (void) state;
    memset(&driver, 0, sizeof(driver));
    memset(words, 0, sizeof(words));
    return 0;
}

static void the_quicker_way_is_chosen(void **state)
{
    bool ended;

    (void) state;
    assert_int_equal(CAR_LAUNCH_GRAPH, choose(60, 100, &ended));
    assert_true(ended);
    memset(words, 0, sizeof(words));
    assert_int_equal(CAR_LAUNCH_PLAIN, choose(100, 60, &ended));
    assert_true(ended);
    assert_int_equal(0, words[0].word[0]); /* another's */
}

static void plain_launches_have_to_be_clearly_quicker(void **state)
{
    bool ended;

    (void) state;
    assert_int_equal(CAR_LAUNCH_GRAPH, choose(100, 97, &ended));
}

static void one_slow_launch_decides_nothing(void **state)
{
    bool ended;

    (void) state;
    driver.slow_one = 5; /* a graph */
    assert_int_equal(CAR_LAUNCH_GRAPH, choose(30, 60, &ended));
    assert_true(driver.launches > 9);
}

static void where_graphs_fail_plain_launches_are_left(void **state)
{
    bool ended;

    (void) state;
    driver.fails[CAR_LAUNCH_GRAPH] = true;
    assert_int_equal(CAR_LAUNCH_PLAIN, choose(10, 60, &ended));
    assert_true(ended);
    anew(NULL);
    driver.fails[CAR_LAUNCH_PLAIN] = true;
    assert_int_equal(CAR_LAUNCH_GRAPH, choose(60, 10, &ended));
}

static void a_busy_gpu_is_not_waited_for(void **state)
{
    bool ended = true;
    const uint64_t start = car_now();

    (void) state;
    driver.never_ends = true;
    assert_int_equal(CAR_LAUNCH_GRAPH, choose(10, 10, &ended));
    assert_false(ended);
    assert_int_equal(1, driver.launches);
    driver.fails[CAR_LAUNCH_GRAPH] = true;
    assert_int_equal(CAR_LAUNCH_PLAIN, choose(10, 10, &ended));
    assert_false(ended);
    assert_true(car_now() - start < 500000000u);
}

/* --- foreseen launches ------------------------------------------------------------------------ */

static car_graph_t graph;
static car_foreseen_t foreseen;

static int nothing_foreseen(void **state)
{
    memset(&graph, 0, sizeof(graph));
    memset(&foreseen, 0, sizeof(foreseen));
    return anew(state);
}

/* The kernel has run with this ticket; the next one is foreseen. How often parameters were set. */
static unsigned int launched(uint32_t ticket, uint32_t blocks, CUresult expected)
{
    const unsigned int sets = driver.sets;
    car_fold_args_t args = {.done = (uint64_t *) words, .ticket = ticket};
    const car_launch_t launch = {(CUfunction) &driver, blocks, 32, &args, sizeof(args)};

    assert_int_equal(expected,
                     car_launch(&cuda, CAR_LAUNCH_GRAPH, &graph, &launch, &foreseen, NULL));
    if (CUDA_SUCCESS == expected) {
        assert_int_equal(ticket, words[0].word[0] >> 32);
        ++args.ticket;
        car_launch_foresee(&foreseen, &graph, &launch);
    }
    return driver.sets - sets;
}

static unsigned int prepared(void)
{
    const unsigned int sets = driver.sets;

    car_launch_prepare(&cuda, &foreseen);
    return driver.sets - sets;
}

static void what_comes_again_is_set_ahead(void **state)
{
    (void) state;
    assert_int_equal(0, launched(1, 1, CUDA_SUCCESS)); /* a new graph */
    assert_int_equal(0, prepared());                   /* once is no habit */
    assert_int_equal(1, launched(2, 1, CUDA_SUCCESS));
    assert_int_equal(1, prepared());
    assert_int_equal(0, prepared());
    assert_int_equal(0, launched(3, 1, CUDA_SUCCESS));
    assert_int_equal(1, launched(4, 1, CUDA_SUCCESS)); /* nobody had time to prepare it */
    assert_int_equal(1, prepared());
}

static void what_comes_otherwise_is_set_then(void **state)
{
    (void) state;
    for (uint32_t ticket = 1; ticket < 4; ++ticket) {
        (void) launched(ticket, 1, CUDA_SUCCESS);
        (void) prepared();
    }
    assert_true(foreseen.set);
    assert_int_equal(1, launched(7, 1, CUDA_SUCCESS)); /* another argument */
    assert_int_equal(0, prepared());
    assert_int_equal(1, launched(8, 2, CUDA_SUCCESS)); /* another grid */
    assert_int_equal(0, prepared());
    assert_int_equal(1, launched(9, 2, CUDA_SUCCESS));
    assert_int_equal(1, prepared());
    assert_int_equal(0, launched(10, 2, CUDA_SUCCESS));
}

static void a_refusal_is_heard_of_by_the_launch(void **state)
{
    (void) state;
    (void) launched(1, 1, CUDA_SUCCESS);
    (void) launched(2, 1, CUDA_SUCCESS);
    driver.refuses = true;
    assert_int_equal(1, prepared());
    assert_int_equal(0, prepared()); /* not again and again */
    assert_int_equal(1, launched(3, 1, CUDA_ERROR_UNKNOWN));
    driver.refuses = false;
    assert_int_equal(1, launched(3, 1, CUDA_SUCCESS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_quicker_way_is_chosen, anew),
        cmocka_unit_test_setup(plain_launches_have_to_be_clearly_quicker, anew),
        cmocka_unit_test_setup(one_slow_launch_decides_nothing, anew),
        cmocka_unit_test_setup(where_graphs_fail_plain_launches_are_left, anew),
        cmocka_unit_test_setup(a_busy_gpu_is_not_waited_for, anew),
        cmocka_unit_test_setup(what_comes_again_is_set_ahead, nothing_foreseen),
        cmocka_unit_test_setup(what_comes_otherwise_is_set_then, nothing_foreseen),
        cmocka_unit_test_setup(a_refusal_is_heard_of_by_the_launch, nothing_foreseen),
    };
    return cmocka_run_group_tests_name("launch", tests, NULL, NULL);
}
