/*
 * Communicators come and go: duplicates and halves, used and freed hundreds of times, several in
 * use at once, freed in another order on every rank. Results are right, and nothing is left behind:
 * device memory, IPC mappings, descriptors, mapped regions, names in /dev/shm. The last ones are
 * still alive at MPI_Finalize.
 *
 *   --rounds N       of making, using and freeing (100)
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testing.h"

#define COUNT 3000
#define AT_ONCE 5

static uint32_t data[COUNT];

/* An allreduce with device memory on that communicator, of values that tell rounds apart. */
static void use(MPI_Comm comm, gpu_buffer_t *buffer, uint32_t round)
{
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    for (uint32_t i = 0; i < COUNT; ++i) {
        data[i] = round * (uint32_t) (rank + 1) + i;
    }
    gpu_write(buffer->address, data, sizeof(data));
    const car_counters_t before = test_counters();
    MPI_Allreduce(MPI_IN_PLACE, buffer->address, COUNT, MPI_UINT32_T, MPI_SUM, comm);
    const car_counters_t since = test_since(&before);
    CHECK((size > 1 ? 1 : 0) == test_served(&since), "round %u: served %llu times on %d ranks",
          round, test_served(&since), size);
    gpu_read(data, buffer->address, sizeof(data));
    const uint32_t n = (uint32_t) size, ranks = n * (n + 1) / 2;
    for (uint32_t i = 0; i < COUNT; ++i) {
        if (!CHECK(data[i] == round * ranks + n * i, "round %u, %d ranks: element %u is %u", round,
                   size, i, data[i])) {
            break;
        }
    }
}

/* --- what a round does ------------------------------------------------------------------------ */

static MPI_Comm half_of(MPI_Comm comm)
{
    MPI_Comm half;
    int rank, size;

    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    MPI_Comm_split(comm, rank < (size + 1) / 2, 0, &half);
    return half;
}

static void one_round(gpu_buffer_t *buffer, uint32_t round)
{
    MPI_Comm comms[AT_ONCE];

    MPI_Comm_dup(MPI_COMM_WORLD, &comms[0]);
    MPI_Comm_split(MPI_COMM_WORLD, test.rank % 2, -test.rank, &comms[1]);
    MPI_Comm_dup(comms[0], &comms[2]);
    comms[3] = half_of(comms[2]); /* never used */
    comms[4] = half_of(MPI_COMM_WORLD);
    use(comms[0], buffer, round);
    use(comms[1], buffer, round + 1); /* all parts of the split at once */
    use(comms[4], buffer, round + 2);
    use(comms[2], buffer, round + 3);
    use(comms[1], buffer, round + 4);
    /*
     * From another start on every rank; only MPI_Comm_free's own order matters to MPI, and it has
     * none here.
     */
    for (int i = 0; i < AT_ONCE; ++i) {
        MPI_Comm_free(&comms[(i + test.rank + (int) round) % AT_ONCE]);
    }
}

/* --- what is left ----------------------------------------------------------------------------- */

typedef struct {
    long long gpu_bytes, mappings;
    int descriptors, regions;
} left_t;

static int entries(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);

    while (NULL != d && NULL != readdir(d)) {
        ++n;
    }
    if (NULL != d) {
        closedir(d);
    }
    return n;
}

static int regions(void)
{
    int lines = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    for (int c; NULL != maps && EOF != (c = fgetc(maps));) {
        lines += '\n' == c;
    }
    if (NULL != maps) {
        fclose(maps);
    }
    return lines;
}

static long long gpu_bytes(void)
{
    size_t unused, total;

    if (gpu_simulated_bytes() >= 0) {
        return gpu_simulated_bytes();
    }
    GPU_OK(gpu.MemGetInfo(&unused, &total));
    return (long long) (total - unused);
}

/* Freed memory is taken back when the next communicator is set up, so there is one. */
static left_t look(gpu_buffer_t *buffer)
{
    MPI_Comm comm;
    left_t left;

    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    use(comm, buffer, 1);
    MPI_Barrier(MPI_COMM_WORLD);
    left = (left_t){.gpu_bytes = gpu_bytes(),
                    .mappings = gpu_simulated_mappings(),
                    .descriptors = entries("/proc/self/fd"),
                    .regions = regions()};
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Comm_free(&comm);
    return left;
}

static void check_left(const left_t *before, const left_t *after, int rounds)
{
    /* The C library and Open MPI may map a few more; a leak would be of several per round. */
    const int some = rounds / 4;
    /*
     * Others may use a real GPU at the same time; a leaked piece per round would be 50 MB and more.
     */
    const long long bytes = gpu_simulated_bytes() >= 0 ? 0 : 16 << 20;

    CHECK(after->gpu_bytes - before->gpu_bytes <= bytes, "%lld more bytes of device memory in use",
          after->gpu_bytes - before->gpu_bytes);
    CHECK(after->mappings <= before->mappings, "%lld IPC mappings, %lld before", after->mappings,
          before->mappings);
    CHECK(after->descriptors <= before->descriptors, "%d descriptors, %d before",
          after->descriptors, before->descriptors);
    CHECK(after->regions <= before->regions + some, "%d mapped regions, %d before", after->regions,
          before->regions);
}

/* Names in /dev/shm that were not there before and stay: other programs' come and go. */
static void check_names(char **before, int number_before)
{
    for (int attempt = 0;; ++attempt) {
        const char *extra = NULL;
        DIR *d = opendir("/dev/shm");
        for (struct dirent *e; NULL != d && NULL == extra && NULL != (e = readdir(d));) {
            bool old = NULL == strstr(e->d_name, "coll_car");
            for (int i = 0; i < number_before && !old; ++i) {
                old = 0 == strcmp(e->d_name, before[i]);
            }
            extra = old ? NULL : e->d_name;
        }
        if (NULL == extra || 20 == attempt) {
            CHECK(NULL == extra, "/dev/shm/%s is left", extra);
            closedir(d);
            return;
        }
        closedir(d);
        usleep(100 * 1000);
    }
}

static int names(char ***list)
{
    int n = 0;
    struct dirent **found;

    const int all = scandir("/dev/shm", &found, NULL, alphasort);
    *list = calloc((size_t) (all > 0 ? all : 1), sizeof(**list));
    for (int i = 0; i < all; ++i) {
        (*list)[n++] = strdup(found[i]->d_name);
        free(found[i]);
    }
    if (all >= 0) {
        free(found);
    }
    return n;
}

int main(int argc, char **argv)
{
    char **names_before;
    MPI_Comm alive, also_alive;

    test_options(argc, argv, "rounds");
    test_begin(&argc, &argv, "lifecycle");
    test_use_gpu();
    const int rounds = (int) test_number("rounds", 100);
    const int number_before = names(&names_before);
    gpu_buffer_t buffer = gpu_allocate(GPU_DEVICE, COUNT * sizeof(uint32_t));
    use(MPI_COMM_WORLD, &buffer, 7);
    for (int i = 0; i < 5; ++i) {
        one_round(&buffer, (uint32_t) i);
    }
    const left_t before = look(&buffer);
    for (int i = 0; i < rounds && 0 == test_failures(); ++i) {
        one_round(&buffer, (uint32_t) i);
    }
    const left_t after = look(&buffer);
    check_left(&before, &after, rounds);
    check_names(names_before, number_before);
    for (int i = 0; i < number_before; ++i) {
        free(names_before[i]);
    }
    free(names_before);
    MPI_Comm_dup(MPI_COMM_WORLD, &alive);
    also_alive = half_of(alive);
    use(alive, &buffer, 3);
    use(also_alive, &buffer, 4);
    gpu_free(&buffer);
    return test_end("%d rounds, %lld bytes and %lld mappings before and after", rounds,
                    before.gpu_bytes, before.mappings);
}
