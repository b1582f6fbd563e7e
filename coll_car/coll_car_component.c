/*
 * The component: what Open MPI's loader and selection see of coll/car.
 */
#include "coll_car_module.h"
#include "coll_car_request.h"

#include "car_control.h"
#include "coll_car_include_list.h"
#include "car_kernel_args.h"
#include "car_tune.h"
#include "car_ucx_library.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int register_parameters(void);
static int open_component(void);
static int close_component(void);
static int init_query(bool enable_progress_threads, bool enable_mpi_threads);

mca_coll_car_component_t mca_coll_car_component = {
    .super = {
        .collm_version = {
            COLL_CAR_BASE_VERSION,
            .mca_component_name = "car",
            MCA_BASE_MAKE_VERSION(component, COLL_CAR_VERSION_MAJOR, COLL_CAR_VERSION_MINOR,
                                  COLL_CAR_VERSION_RELEASE),
            .mca_open_component = open_component,
            .mca_close_component = close_component,
            .mca_register_component_params = register_parameters,
        },
        .collm_init_query = init_query,
        .collm_comm_query = mca_coll_car_comm_query,
    },
    .output = -1,
};

/* This process in messages: its rank in MPI_COMM_WORLD; -1 until MPI is initialised. */
static int my_rank = -1;

/*
 * One process per node speaks of what is the same for all of them. Asked of the launcher's
 * environment, as it is needed before Open MPI knows more, and where its structures may not be
 * those that we were compiled for.
 */
bool coll_car_speaks_for_node(void)
{
    const char *local_rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");

    return NULL == local_rank || 0 == strcmp(local_rank, "0");
}

void coll_car_say(const char *format, ...)
{
    char text[1024], who[32] = "";
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (0 <= my_rank) {
        snprintf(who, sizeof(who), " rank %d:", my_rank);
    }
    opal_output(0, "coll/car:%s %s", who, text);
}

/* --- parameters ------------------------------------------------------------------------------- */

static const mca_base_var_enum_value_t algorithm_values[] = {
    {CAR_ALGORITHM_AUTO, "auto"},
    {CAR_ONE_SHOT_PUSH, "one_shot_push"},
    {CAR_TWO_SHOT_PUSH, "two_shot_push"},
    {CAR_ONE_SHOT_PULL, "one_shot_pull"},
    {CAR_TWO_SHOT, "two_shot"},
    {0, NULL},
};

static const mca_base_var_enum_value_t links_values[] = {
    {CAR_LINKS_AUTO, "auto"},
    {CAR_LINKS_NVLINK, "nvlink"},
    {CAR_LINKS_P2P, "p2p"},
    {0, NULL},
};

static const mca_base_var_enum_value_t launch_values[] = {
    {CAR_LAUNCH_AUTO, "auto"},
    {CAR_LAUNCH_GRAPH, "graph"},
    {CAR_LAUNCH_PLAIN, "plain"},
    {0, NULL},
};

static const mca_base_var_enum_value_t stream_order_values[] = {
    {CAR_STREAM_ORDER_NONE, "none"},
    {CAR_STREAM_ORDER_LEGACY, "legacy"},
    {0, NULL},
};

static const mca_base_var_enum_value_t two_phase_values[] = {
    {CAR_TWO_PHASE_AUTO, "auto"},
    {CAR_TWO_PHASE_NEVER, "never"},
    {CAR_TWO_PHASE_ALWAYS, "always"},
    {0, NULL},
};

static const mca_base_var_enum_value_t stay_values[] = {
    {CAR_STAY_OFF, "off"},
    {CAR_STAY_ADAPTIVE, "adaptive"},
    {CAR_STAY_ALWAYS, "always"},
    {0, NULL},
};

static void add(const char *name, const char *help, mca_base_var_type_t type,
                mca_base_var_enum_t *names, mca_base_var_info_lvl_t level, void *storage)
{
    /* All are fixed at the start: what a communicator was set up with holds as long as it lives. */
    (void) mca_base_component_var_register(&mca_coll_car_component.super.collm_version, name, help,
                                           type, names, 0, 0, level, MCA_BASE_VAR_SCOPE_READONLY,
                                           storage);
}

/* One of several names, stored as the number that stands beside it. */
static void add_choice(const char *name, const char *help, const mca_base_var_enum_value_t *values,
                       mca_base_var_info_lvl_t level, int *storage)
{
    mca_base_var_enum_t *names = NULL;

    if (OPAL_SUCCESS == mca_base_var_enum_create(name, values, &names)) {
        add(name, help, MCA_BASE_VAR_TYPE_INT, names, level, storage);
        OBJ_RELEASE(names);
    }
}

static void register_user_parameters(mca_coll_car_component_t *c)
{
    add("priority",
        "Priority of coll/car among the collective components, 0 to 100. The default is above Open "
        "MPI's own staging of GPU buffers (78) and all host components; negative: never used",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_3, &c->priority);
    add("verbose",
        "0: silent but for problems; 1: one line per communicator, whether coll/car serves it and "
        "why not; 2 and more: details of set-up",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_2, &c->verbose);
    add_choice("links",
               "Which pairs of GPUs coll/car connects: nvlink; p2p (whatever the driver lets peers "
               "access, PCIe too); auto (NVLink, and with two ranks also PCIe). One GPU shared by "
               "several ranks always counts as connected",
               links_values, OPAL_INFO_LVL_3, &c->params.links);
    add_choice("stream_order",
               "none: buffers are ready when MPI_Allreduce is called, as MPI says; legacy: work on "
               "the caller's legacy default stream that nobody waited for comes first, which "
               "costs about 1 us per call with an idle default stream",
               stream_order_values, OPAL_INFO_LVL_3, &c->params.stream_order);
    add("memory",
        "Bytes of device memory that a process spends on one GPU for all its communicators "
        "(suffixes k, m and g are understood)",
        MCA_BASE_VAR_TYPE_SIZE_T, NULL, OPAL_INFO_LVL_3, &c->params.memory);
    add("timeout",
        "Seconds that a rank waits for others in an allreduce before it gives up, which breaks "
        "the communicator: all its calls return an error then; 0: for ever",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_3, &c->params.timeout);
    add("warn_after",
        "Seconds that a rank waits for others in an allreduce before one line says who is missing; "
        "0: no such line",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_3, &c->params.warn_after);
}

static void register_tuning_parameters(mca_coll_car_component_t *c)
{
    add_choice("algorithm",
               "Forces one algorithm for all messages of blocking and persistent calls, and none "
               "is zero copy; auto chooses by size and number of ranks. All give the same bits",
               algorithm_values, OPAL_INFO_LVL_5, &c->params.algorithm);
    add("push_max",
        "Largest message in bytes for one_shot_push when the algorithm is auto; -1: from the "
        "tune file, else the built-in table",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_5, &c->params.push_max);
    add("two_shot_push_max",
        "Largest message in bytes for two_shot_push, above those of one_shot_push, when the "
        "algorithm is auto; 0: none",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_5, &c->params.two_shot_push_max);
    add("pull_max",
        "Largest message in bytes for one_shot_pull when the algorithm is auto; two_shot takes "
        "those above; -1: from the tune file, else the built-in table",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_5, &c->params.pull_max);
    add("blocks", "Blocks of a kernel's grid; 0: as many as the table says and the GPU can hold",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.blocks);
    add("threads", "Threads of a block, in whole warps of 32; 0: from the built-in table",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.threads);
    add("host_max",
        "Largest message in bytes that ranks with host memory reduce in shared memory, in the "
        "exchange that tells what memory each of them has; never more than 131072 divided by the "
        "ranks; 0: none",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_5, &c->params.host_max);
    add("spin_us",
        "Microseconds that a kernel waits for a late peer before it leaves the GPU; it is launched "
        "again when the peer has come",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.spin_us);
    add("zero_copy_min",
        "Smallest message in bytes for which kernels read and write the buffers of all ranks "
        "where they are, if these are memory that can be shared; -1: from the tune file, else the "
        "built-in table; 0: never",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_5, &c->params.zero_copy_min);
    add("zero_copy_again",
        "The same for blocking calls with buffers that have been used before; 0: all; -1: from "
        "the tune file, else the built-in table",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_6, &c->params.zero_copy_again);
    add("alone_max",
        "Largest message in bytes for which that is done by one rank's kernel for all, each rank "
        "having its turn; above, each rank does its share; 0: none; -1: from the tune file, else "
        "the built-in table",
        MCA_BASE_VAR_TYPE_INT, NULL, OPAL_INFO_LVL_6, &c->params.alone_max);
    add("tune_file",
        "File of thresholds that were measured on this machine, as tools/tune writes it: by GPU "
        "generation and number of ranks; it comes before the built-in table and after the "
        "parameters coll_car_push_max, pull_max, alone_max, zero_copy_min and zero_copy_again. "
        "Rank 0's holds for all ranks of a communicator",
        MCA_BASE_VAR_TYPE_STRING, NULL, OPAL_INFO_LVL_5, &c->params.tune_file);
    add("map_max", "Buffers of other processes that a process keeps mapped for that, at most",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.map_max);
    add("map_bytes",
        "And their bytes, at most: a buffer that is mapped elsewhere keeps its memory after it is "
        "freed, until the next large call of the communicator",
        MCA_BASE_VAR_TYPE_SIZE_T, NULL, OPAL_INFO_LVL_6, &c->params.map_bytes);
    add("ucx",
        "Library of UCX whose memory events tell at once what buffers have been freed, so that "
        "other processes do not keep them until that call: a name or a path; none: no events",
        MCA_BASE_VAR_TYPE_STRING, NULL, OPAL_INFO_LVL_5, &c->params.ucx);
    add_choice("two_phase",
               "Whether blocking calls use kernels that do not wait for each other, as "
               "nonblocking ones do: auto: where ranks share a GPU without MPS and their kernels "
               "take turns",
               two_phase_values, OPAL_INFO_LVL_6, &c->params.two_phase);
    add_choice("stay",
               "Whether a kernel stays on the GPU after a small call and waits a moment for the "
               "next one, which then needs no launch: adaptive: while calls follow each other "
               "quickly; what waits for the whole GPU then waits for that kernel, too",
               stay_values, OPAL_INFO_LVL_4, &c->params.stay);
    add("stay_us", "Microseconds that such a kernel waits for the next call",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_5, &c->params.stay_us);
    add("stay_total_us", "Microseconds after which such a kernel leaves even if calls keep coming",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.stay_total_us);
    add("stay_max",
        "Largest message that such a kernel takes, in bytes, times the number of ranks less one",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.stay_max);
    add("stay_blocks",
        "Blocks of such a kernel, at most; larger messages have more of them. Each does four of "
        "the blocks that are launched otherwise at most",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_6, &c->params.stay_blocks);
    add_choice(
        "launch",
        "How kernels are launched: graph (a graph of one node with new arguments), plain, or auto: "
        "whichever the host hears of sooner, measured when a process first uses a GPU",
        launch_values, OPAL_INFO_LVL_8, &c->params.launch);
    add("timing",
        "Count the nanoseconds of the phases of blocking calls (performance variables "
        "coll_car_ns_*)",
        MCA_BASE_VAR_TYPE_BOOL, NULL, OPAL_INFO_LVL_5, &c->params.timing);
    add("first_epoch",
        "Number of a communicator's first exchange; for tests of what happens at the last one",
        MCA_BASE_VAR_TYPE_UNSIGNED_INT, NULL, OPAL_INFO_LVL_9, &c->params.first_epoch);
}

static void register_counters(mca_coll_car_component_t *c)
{
#define CAR_COUNTER(name, sentence)                                                                \
    (void) mca_base_component_pvar_register(                                                       \
        &c->super.collm_version, #name, sentence, OPAL_INFO_LVL_4, MCA_BASE_PVAR_CLASS_COUNTER,    \
        MCA_BASE_VAR_TYPE_UNSIGNED_LONG_LONG, NULL, MCA_BASE_VAR_BIND_NO_OBJECT,                   \
        MCA_BASE_PVAR_FLAG_READONLY | MCA_BASE_PVAR_FLAG_CONTINUOUS, NULL, NULL, NULL,             \
        &c->counters.name);
    CAR_COUNTERS(CAR_COUNTER)
#undef CAR_COUNTER
}

/* Brings a parameter into its range; says so. */
static long long in_range(const char *name, long long value, long long least, long long most)
{
    const long long corrected = value < least ? least : value > most ? most : value;

    if (corrected != value && coll_car_speaks_for_node()) {
        coll_car_say("parameter coll_car_%s is %lld; it must be %lld to %lld: taking %lld", name,
                     value, least, most, corrected);
    }
    return corrected;
}

static void correct_parameters(mca_coll_car_component_t *c)
{
    enum { LEAST_MEMORY = 1 << 20, MOST_SPIN_US = 1000000 };
    car_params_t *p = &c->params;

    c->priority = (int) in_range("priority", c->priority, -1, 100);
    c->verbose = (int) in_range("verbose", c->verbose, 0, 100);
    p->push_max = (int) in_range("push_max", p->push_max, -1, INT_MAX);
    p->two_shot_push_max = (int) in_range("two_shot_push_max", p->two_shot_push_max, 0, INT_MAX);
    p->pull_max = (int) in_range("pull_max", p->pull_max, -1, INT_MAX);
    p->alone_max = (int) in_range("alone_max", p->alone_max, -1, INT_MAX);
    p->zero_copy_again = (int) in_range("zero_copy_again", p->zero_copy_again, -1, INT_MAX);
    p->zero_copy_min = (int) in_range("zero_copy_min", p->zero_copy_min, -1, INT_MAX);
    /* 0 is what cleared memory holds: it would pass for data that has arrived. */
    p->first_epoch = (unsigned int) in_range("first_epoch", p->first_epoch, 1, UINT_MAX);
    p->host_max = (unsigned int) in_range("host_max", p->host_max, 0, CAR_CONTROL_ROOM);
    p->spin_us = (unsigned int) in_range("spin_us", p->spin_us, 1, MOST_SPIN_US);
    p->stay_us = (unsigned int) in_range("stay_us", p->stay_us, 1, MOST_SPIN_US);
    p->stay_total_us = (unsigned int) in_range("stay_total_us", p->stay_total_us, 1, MOST_SPIN_US);
    p->stay_blocks = (unsigned int) in_range("stay_blocks", p->stay_blocks, 1, CAR_DONE_WORDS);
    p->blocks = (unsigned int) in_range("blocks", p->blocks, 0, CAR_MAX_BLOCKS);
    p->threads = (unsigned int) in_range("threads", p->threads, 0, CAR_MAX_THREADS);
    if (0 != p->threads % CAR_WARP) {
        const unsigned int whole = (p->threads + CAR_WARP - 1) / CAR_WARP * CAR_WARP;

        if (coll_car_speaks_for_node()) {
            coll_car_say("parameter coll_car_threads is %u; it must be a multiple of %d: taking %u",
                         p->threads, CAR_WARP, whole);
        }
        p->threads = whole;
    }
    if (LEAST_MEMORY > p->memory) {
        if (coll_car_speaks_for_node()) {
            coll_car_say("parameter coll_car_memory is %zu; it must be %d or more: taking %d",
                         p->memory, LEAST_MEMORY, LEAST_MEMORY);
        }
        p->memory = LEAST_MEMORY;
    }
}

/*
 * Runs for MPI_Init, for MPI_T and ompi_info where nothing else of MPI is up, and again after a
 * close: so defaults are set here. Never fails, as some versions trip over a component that has
 * registered and then failed.
 */
static int register_parameters(void)
{
    mca_coll_car_component_t *c = &mca_coll_car_component;
    int rc;

    c->priority = 95;
    c->verbose = 0;
    c->params = (car_params_t){
        .algorithm = CAR_ALGORITHM_AUTO,
        .links = CAR_LINKS_AUTO,
        .launch = CAR_LAUNCH_AUTO,
        .stream_order = CAR_STREAM_ORDER_NONE,
        .memory = 64 << 20,
        .push_max = -1,
        .two_shot_push_max = 0,
        .pull_max = -1,
        .host_max = 65536,
        .spin_us = 300,
        .zero_copy_min = -1,
        .alone_max = -1,
        .zero_copy_again = -1,
        .map_max = 256,
        .map_bytes = (size_t) 64 << 30,
        .ucx = CAR_UCX_LIBRARY,
        .stay = CAR_STAY_ADAPTIVE,
        .stay_us = 30,
        /*
         * With 1000 one call in a hundred was launched as a stay had ended: 11 us, where the median
         * was 4.6 (H200).
         */
        .stay_total_us = 5000,
        .stay_max = 384 * 1024,
        .stay_blocks = 32,
        .first_epoch = 1,
        .warn_after = 30,
    };
    register_user_parameters(c);
    register_tuning_parameters(c);
    register_counters(c);
    correct_parameters(c);

    rc = coll_car_extend_include_list();
    if (OPAL_SUCCESS != rc && coll_car_speaks_for_node()) {
        coll_car_say("cannot add the components that an include list with car lacks (error %d); "
                     "name them: --mca coll car,basic,libnbc,self,inter,tuned",
                     rc);
    }
    return OPAL_SUCCESS;
}

/* --- open, selection, close ------------------------------------------------------------------- */

/*
 * A file that cannot be used changes nothing but speed: it is told of, and the job goes on without.
 */
static void read_tune_file(car_params_t *params)
{
    static car_tune_t tune;
    char wrong[CAR_TUNE_WRONG_BYTES];

    params->tune = NULL;
    if (NULL == params->tune_file || '\0' == params->tune_file[0]) {
        return;
    }
    if (car_tune_read(params->tune_file, &tune, wrong)) {
        params->tune = &tune;
    } else if (coll_car_speaks_for_node()) {
        coll_car_say(
            "the file of coll_car_tune_file is not used, and the built-in thresholds are: %s",
            wrong);
    }
}

static int open_component(void)
{
    mca_coll_car_component_t *c = &mca_coll_car_component;

    read_tune_file(&c->params);

    c->output = opal_output_open(NULL);
    opal_output_set_verbosity(c->output, c->verbose);
    return OPAL_SUCCESS;
}

/*
 * Declines an Open MPI other than the one compiled for: its structures changed within a series,
 * with the interface's version the same. Not in open: `--mca coll car` would then end in Open MPI's
 * own complaint about a missing component, which crashes in 4.1.4.
 */
static int init_query(bool enable_progress_threads, bool enable_mpi_threads)
{
    (void) enable_progress_threads;
    (void) enable_mpi_threads;

    if (0 != strcmp(coll_car_running_version(), COLL_CAR_COMPILED_VERSION)) {
        if (coll_car_speaks_for_node()) {
            coll_car_say("not used: it was built for Open MPI %s and this is %s. Rebuild it for "
                         "this one: ./configure --with-openmpi=PREFIX && make install",
                         COLL_CAR_COMPILED_VERSION, coll_car_running_version());
        }
        return OMPI_ERR_NOT_AVAILABLE;
    }
    my_rank = coll_car_world_rank();
    return OMPI_SUCCESS;
}

static int close_component(void)
{
    mca_coll_car_component_t *c = &mca_coll_car_component;

    coll_car_requests_close();
    coll_car_modules_close();
    if (0 <= c->output) {
        opal_output_close(c->output);
        c->output = -1;
    }
    my_rank = -1;
    return OPAL_SUCCESS;
}
