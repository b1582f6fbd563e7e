/*
 * The set-up of a communicator, step by step, each of which all ranks leave together; and its end.
 */
#include "car_comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "car_pending.h"

/*
 * Above this a rank's grid gains nothing: 64 blocks of 512 threads fill a Hopper link (reference measurements), and two
 * ranks on one H100 move 16 MB in 68 us with 128 blocks each, in 78 with 64 (November 2026).
 */
#define CAR_BLOCKS_ENOUGH 128

/* --- what the ranks tell each other, one step after the other ---------------------------------------------- */

typedef struct {
    int failed;
    int by_choice; /* nothing is wrong: coll/car is not meant for these GPUs */
    char reason[CAR_REASON_BYTES];
} car_verdict_t;

typedef struct {
    car_verdict_t verdict;
    int pid;
    int node_processes;
    int devices; /* that this rank can see */
    uint32_t resident_blocks;
    uint32_t threads;
    CUuuid uuid;
    car_id_t arena;
    CUipcMemHandle handle;
    int algorithm, push_max, pull_max;
    uint32_t blocks_wanted, threads_wanted, first_epoch;
} car_offer_t;

typedef struct {
    car_verdict_t verdict;
    uint64_t piece_offset;
    uint32_t tag;
} car_step_t;

_Static_assert(sizeof(car_offer_t) <= CAR_RECORD_BYTES, "an offer fits a record");

static bool fail(car_verdict_t *verdict, CUresult result, const char *what)
{
    if (CUDA_SUCCESS == result) {
        return false;
    }
    verdict->failed = 1;
    snprintf(verdict->reason, sizeof(verdict->reason), "%s: %s", what, car_cuda_error(result));
    return true;
}

/* Whether a rank failed, and the first that did. The records begin with their verdicts. */
static bool any_failed(const void *records, size_t bytes, int size, car_failure_t *failure)
{
    for (int r = 0; r < size; ++r) {
        const car_verdict_t *verdict = (const void *) ((const char *) records + (size_t) r * bytes);
        if (verdict->failed) {
            failure->rank = r;
            failure->by_choice = 0 != verdict->by_choice;
            memcpy(failure->reason, verdict->reason, CAR_REASON_BYTES);
            failure->reason[CAR_REASON_BYTES - 1] = '\0';
            return true;
        }
    }
    return false;
}

/* --- step 1: what each rank can offer ------------------------------------------------------------------------ */

static CUresult create_stream(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    car_cuda_guard_t guard;

    CUresult result = car_cuda_enter(cuda, comm->device->context, &guard);
    if (CUDA_SUCCESS != result) {
        return result;
    }
    result = cuda->StreamCreateWithPriority(&comm->stream, CU_STREAM_NON_BLOCKING, comm->device->priority);
    if (CUDA_SUCCESS == result) {
        result = cuda->EventCreate(&comm->event, CU_EVENT_DISABLE_TIMING);
    }
    car_cuda_leave(cuda, &guard);
    return result;
}

static void make_offer(car_comm_t *comm, const car_comm_config_t *config, car_offer_t *offer)
{
    const car_cuda_t *cuda = car_cuda();
    CUcontext context;

    memset(offer, 0, sizeof(*offer));
    offer->verdict.failed = 1;
    if (NULL == cuda) {
        snprintf(offer->verdict.reason, CAR_REASON_BYTES, "the CUDA driver of this rank lacks %s",
                 NULL != car_cuda_missing() ? car_cuda_missing() : "everything");
        return;
    }
    if (!car_device_find_context(cuda, config->buffer, &context, offer->verdict.reason)) {
        return;
    }
    car_devices_lock();
    car_pending_reclaim();
    comm->device = car_device_get(cuda, context, comm->params->memory, offer->verdict.reason);
    if (NULL != comm->device) {
        comm->word = car_device_take_word(comm->device);
    }
    car_devices_unlock();
    if (NULL == comm->device) {
        return;
    }
    if (comm->word < 0) {
        snprintf(offer->verdict.reason, CAR_REASON_BYTES, "more communicators than there are completion words");
        return;
    }
    offer->verdict.failed = 0;
    if (fail(&offer->verdict, create_stream(comm), "creating a stream")) {
        return;
    }
    offer->pid = (int) getpid();
    offer->node_processes = config->node_processes;
    (void) cuda->DeviceGetCount(&offer->devices);
    offer->resident_blocks = comm->device->resident_blocks;
    offer->threads = comm->device->threads;
    offer->uuid = comm->device->uuid;
    offer->arena = comm->device->id;
    offer->handle = comm->device->handle;
    offer->algorithm = comm->params->algorithm;
    offer->push_max = comm->params->push_max;
    offer->pull_max = comm->params->pull_max;
    offer->blocks_wanted = comm->params->blocks;
    offer->threads_wanted = comm->params->threads;
    offer->first_epoch = comm->params->first_epoch;
}

/* Processes that may run kernels on the GPU of rank r: those of this communicator, or the job's share of a GPU. */
static int sharing(const car_offer_t *offers, int size, int r, int gpus)
{
    int here = 0;

    for (int q = 0; q < size; ++q) {
        here += 0 == memcmp(&offers[q].uuid, &offers[r].uuid, sizeof(offers[r].uuid));
    }
    const int known = offers[r].devices > gpus ? offers[r].devices : gpus;
    const int share = (offers[r].node_processes + known - 1) / known;
    return here > share ? here : share;
}

static int count_gpus(const car_offer_t *offers, int size)
{
    int gpus = 0;

    for (int r = 0; r < size; ++r) {
        int first = 1;
        for (int q = 0; q < r; ++q) {
            first &= 0 != memcmp(&offers[q].uuid, &offers[r].uuid, sizeof(offers[r].uuid));
        }
        gpus += first;
    }
    return gpus;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* From here on every rank has the same limits: rank 0's wishes, the least of what all can do. */
static void agree(car_comm_t *comm, const car_offer_t *offers)
{
    uint32_t blocks = CAR_BLOCKS_ENOUGH, threads = offers[0].threads;
    comm->gpus = count_gpus(offers, comm->size);
    for (int r = 0; r < comm->size; ++r) {
        blocks = smaller(blocks, offers[r].resident_blocks / (uint32_t) sharing(offers, comm->size, r, comm->gpus));
        threads = smaller(threads, offers[r].threads);
        comm->peer[r] = (car_peer_t){.arena = offers[r].arena, .pid = offers[r].pid};
    }
    blocks = 0 == blocks ? 1 : blocks;
    if (0 != offers[0].blocks_wanted) {
        blocks = smaller(offers[0].blocks_wanted, CAR_MAX_BLOCKS);
    }
    if (0 != offers[0].threads_wanted) {
        threads = smaller(threads, offers[0].threads_wanted);
    }
    comm->limits = (car_limits_t){.ranks = comm->size,
                                  .algorithm = offers[0].algorithm,
                                  .push_max = offers[0].push_max,
                                  .pull_max = offers[0].pull_max,
                                  .one_gpu = 1 == comm->gpus,
                                  .blocks = blocks,
                                  .threads = threads};
    comm->piece_bytes = CAR_PIECE_MIN;
    comm->epoch = offers[0].first_epoch;
    car_layout_make(comm->piece_bytes, comm->size, &comm->limits.layout);
}

/* --- step 2: links and memory -------------------------------------------------------------------------------- */

static bool link_allowed(const car_comm_t *comm, car_link_t link)
{
    if (CAR_LINK_SAME_GPU == link || CAR_LINK_NVLINK == link) {
        return true;
    }
    if (CAR_LINK_NONE == link || CAR_LINKS_NVLINK == comm->params->links) {
        return false;
    }
    return CAR_LINKS_P2P == comm->params->links || 2 == comm->size;
}

static void check_links(car_comm_t *comm, const car_offer_t *offers, car_verdict_t *verdict)
{
    comm->worst_link = CAR_LINK_SAME_GPU;
    for (int r = 0; r < comm->size; ++r) {
        const car_link_t link = car_topology_link(comm->device->cuda, comm->device->ordinal, &comm->device->uuid,
                                                  &offers[r].uuid);
        comm->worst_link = link < comm->worst_link ? link : comm->worst_link;
        if (!link_allowed(comm, link)) {
            char mine[CAR_UUID_TEXT_BYTES], other[CAR_UUID_TEXT_BYTES];
            car_uuid_text(&comm->device->uuid, mine);
            car_uuid_text(&offers[r].uuid, other);
            verdict->failed = verdict->by_choice = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES, "%s and %s (rank %d) have %s between them%s", mine, other, r,
                     car_link_name(link),
                     CAR_LINK_NONE == link ? "" : "; coll_car_links p2p would accept that");
            return;
        }
    }
}

static void take_piece(car_comm_t *comm, car_verdict_t *verdict)
{
    car_devices_lock();
    comm->piece_taken = car_arena_take(&comm->device->arena, comm->piece_bytes, CAR_ARENA_LOW, &comm->piece_offset);
    car_devices_unlock();
    if (!comm->piece_taken) {
        verdict->failed = 1;
        snprintf(verdict->reason, CAR_REASON_BYTES,
                 "all %zu MB of this rank's device memory for allreduce are in use by other communicators; "
                 "coll_car_memory sets how much there is",
                 comm->device->arena.bytes >> 20);
    }
}

/* --- steps 3 to 5: map, clear, probe --------------------------------------------------------------------------- */

static CUresult copy_word(car_comm_t *comm, CUdeviceptr to, CUdeviceptr from)
{
    const CUresult result = comm->device->cuda->MemcpyAsync(to, from, sizeof(uint32_t), comm->stream);
    return CUDA_SUCCESS == result ? comm->device->cuda->StreamSynchronize(comm->stream) : result;
}

static CUdeviceptr probe_word(const car_comm_t *comm, int owner, int writer)
{
    return comm->peer[owner].piece + offsetof(car_flags_t, probe) + (size_t) writer * sizeof(uint32_t);
}

static CUdeviceptr tag_word(const car_comm_t *comm, int owner)
{
    return comm->peer[owner].piece + offsetof(car_flags_t, tag);
}

static void map_peers(car_comm_t *comm, const car_offer_t *offers, const car_step_t *steps, car_verdict_t *verdict)
{
    car_devices_lock();
    for (int r = 0; r < comm->size && !verdict->failed; ++r) {
        CUdeviceptr arena = comm->device->memory;
        if (r != comm->rank) {
            const CUresult result = car_device_map(comm->device, &offers[r].arena, &offers[r].handle, &arena);
            if (CUDA_SUCCESS != result) {
                verdict->failed = 1;
                snprintf(verdict->reason, CAR_REASON_BYTES,
                         "CUDA IPC refused the memory of rank %d (pid %d): %s; ranks must share one PID and IPC "
                         "namespace (in containers: --pid=host --ipc=host), and see GPUs that can access each other",
                         r, offers[r].pid, car_cuda_error(result));
                break;
            }
        }
        comm->peer[r].memory = arena;
        comm->peer[r].piece = arena + steps[r].piece_offset;
    }
    car_devices_unlock();
}

CUresult car_comm_clear(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    const CUdeviceptr piece = comm->peer[comm->rank].piece;
    CUresult result = cuda->MemsetD8Async(piece, 0, comm->limits.layout.staging_offset, comm->stream);
    return CUDA_SUCCESS == result ? cuda->StreamSynchronize(comm->stream) : result;
}

static void clear_and_tag(car_comm_t *comm, uint32_t tag, car_verdict_t *verdict)
{
    if (!fail(verdict, car_comm_clear(comm), "clearing device memory")) {
        (void) fail(verdict, copy_word(comm, tag_word(comm, comm->rank), (CUdeviceptr) (uintptr_t) &tag),
                    "writing to device memory");
    }
}

/* Reads every peer's tag through its mapping and leaves a word of ours there: both ways must show the right memory. */
static void probe(car_comm_t *comm, const car_step_t *steps, uint32_t tag, car_verdict_t *verdict)
{
    for (int r = 0; r < comm->size; ++r) {
        uint32_t seen = 0;
        const uint32_t sent = tag ^ (uint32_t) r;
        if (fail(verdict, copy_word(comm, (CUdeviceptr) (uintptr_t) &seen, tag_word(comm, r)),
                 "reading a peer's memory through CUDA IPC")
            || fail(verdict, copy_word(comm, probe_word(comm, r, comm->rank), (CUdeviceptr) (uintptr_t) &sent),
                    "writing a peer's memory through CUDA IPC")) {
            return;
        }
        if (seen != steps[r].tag) {
            verdict->failed = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES,
                     "the mapping of rank %d's memory shows other memory: peer access of these GPUs does not work "
                     "(IOMMU or ACS settings?)",
                     r);
            return;
        }
    }
}

static void check_probes(car_comm_t *comm, const car_step_t *steps, car_verdict_t *verdict)
{
    for (int r = 0; r < comm->size; ++r) {
        uint32_t seen = 0;
        if (fail(verdict, copy_word(comm, (CUdeviceptr) (uintptr_t) &seen, probe_word(comm, comm->rank, r)),
                 "reading device memory")) {
            return;
        }
        if (seen != (steps[r].tag ^ (uint32_t) comm->rank)) {
            verdict->failed = 1;
            snprintf(verdict->reason, CAR_REASON_BYTES,
                     "what rank %d wrote through its mapping did not arrive here: peer access of these GPUs does not "
                     "work (IOMMU or ACS settings?)",
                     r);
            return;
        }
    }
}

/* Brings a step to all ranks; true if none failed. */
static bool together(car_comm_t *comm, const car_step_t *mine, car_step_t *all, car_failure_t *failure)
{
    (void) car_control_exchange(comm->control, mine, sizeof(*mine), all, comm->progress); /* breaks in calls only */
    return !any_failed(all, sizeof(*all), comm->size, failure);
}

/* Steps 2 to 5, inside the device's context if `entered` is CUDA_SUCCESS. True on all ranks or on none. */
static bool connect(car_comm_t *comm, const car_offer_t *offers, CUresult entered, car_failure_t *failure)
{
    car_step_t mine = {0}, steps[CAR_MAX_RANKS], last[CAR_MAX_RANKS];

    if (!fail(&mine.verdict, entered, "making the context current")) {
        check_links(comm, offers, &mine.verdict);
    }
    if (!mine.verdict.failed) {
        take_piece(comm, &mine.verdict);
    }
    mine.piece_offset = comm->piece_offset;
    if (!together(comm, &mine, steps, failure)) {
        return false;
    }
    map_peers(comm, offers, steps, &mine.verdict);
    if (!mine.verdict.failed && sizeof(mine.tag) != getrandom(&mine.tag, sizeof(mine.tag), 0)) {
        fail(&mine.verdict, CUDA_ERROR_OPERATING_SYSTEM, "getrandom");
    }
    if (!mine.verdict.failed) {
        clear_and_tag(comm, mine.tag, &mine.verdict);
    }
    if (!together(comm, &mine, steps, failure)) {
        return false;
    }
    probe(comm, steps, mine.tag, &mine.verdict);
    if (!together(comm, &mine, last, failure)) {
        return false;
    }
    check_probes(comm, steps, &mine.verdict);
    return together(comm, &mine, last, failure);
}

/* --- the whole of it ------------------------------------------------------------------------------------------ */

car_comm_t *car_comm_create(const car_comm_config_t *config, car_failure_t *failure)
{
    car_offer_t mine, offers[CAR_MAX_RANKS];
    car_comm_t *comm = calloc(1, sizeof(*comm));
    bool connected = false;

    if (NULL == comm) {
        memset(&mine, 0, sizeof(mine));
        (void) fail(&mine.verdict, CUDA_ERROR_OUT_OF_MEMORY, "host memory");
        (void) car_control_exchange(config->control, &mine, sizeof(mine), offers, config->progress);
        (void) any_failed(offers, sizeof(offers[0]), config->size, failure);
        car_control_detach(config->control);
        return NULL;
    }
    *comm = (car_comm_t){.rank = config->rank,
                         .size = config->size,
                         .control = config->control,
                         .params = config->params,
                         .counters = config->counters,
                         .progress = config->progress,
                         .word = -1};
    make_offer(comm, config, &mine);
    (void) car_control_exchange(comm->control, &mine, sizeof(mine), offers, comm->progress);
    if (!any_failed(offers, sizeof(offers[0]), comm->size, failure)) {
        car_cuda_guard_t guard;
        agree(comm, offers);
        const CUresult result = car_cuda_enter(comm->device->cuda, comm->device->context, &guard);
        connected = connect(comm, offers, result, failure);
        if (CUDA_SUCCESS == result) {
            car_cuda_leave(comm->device->cuda, &guard);
        }
    }
    if (!connected) {
        car_comm_destroy(comm, true);
        return NULL;
    }
    return comm;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void destroy_graphs(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;

    for (int a = 0; a < CAR_ALGORITHMS; ++a) {
        for (int k = 0; k < CAR_KERNELS; ++k) {
            if (NULL != comm->graphs[a][k].exec) {
                (void) cuda->GraphExecDestroy(comm->graphs[a][k].exec);
            }
            if (NULL != comm->graphs[a][k].graph) {
                (void) cuda->GraphDestroy(comm->graphs[a][k].graph);
            }
        }
    }
}

static void destroy_driver_objects(car_comm_t *comm)
{
    const car_cuda_t *cuda = comm->device->cuda;
    car_cuda_guard_t guard;

    if (CUDA_SUCCESS != car_cuda_enter(cuda, comm->device->context, &guard)) {
        return;
    }
    destroy_graphs(comm);
    if (NULL != comm->event) {
        (void) cuda->EventDestroy(comm->event);
    }
    if (NULL != comm->stream) {
        (void) cuda->StreamDestroy(comm->stream);
    }
    car_cuda_leave(cuda, &guard);
}

void car_comm_destroy(car_comm_t *comm, bool alive)
{
    alive = alive && (NULL == comm->device || !car_device_lost(comm->device));
    if (NULL != comm->device && alive) {
        destroy_driver_objects(comm);
    }
    car_devices_lock();
    if (NULL != comm->device) {
        for (int r = 0; r < comm->size; ++r) {
            if (alive && r != comm->rank && 0 != comm->peer[r].memory) {
                car_device_unmap(comm->device, &comm->peer[r].arena);
            }
        }
        if (comm->word >= 0) {
            car_device_give_word(comm->device, comm->word);
        }
    }
    car_control_depart(comm->control);
    /* Without a piece there is nothing that a late peer could reach; without memory the piece is lost, which is safe. */
    if (!comm->piece_taken || !car_pending_add(comm->device, comm->piece_offset, comm->control)) {
        car_control_detach(comm->control);
    }
    if (alive) {
        car_pending_reclaim();
    }
    car_devices_unlock();
    free(comm);
}
