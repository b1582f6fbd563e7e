/*
 * Calls of different algorithms right after each other, which use the same memory: nothing of one
 * call is overwritten by the next while a slow rank still reads it. To be run with few blocks, so
 * that the larger message takes several rounds, and with --mca coll_car_push_max 0,
 * coll_car_pull_max 65536, or, for the two that share the inbox for packets, coll_car_push_max
 * 65536, coll_car_two_shot_push_max 1000000.
 *
 *   --rounds N      (200)
 *   --packets yes   one_shot_push and two_shot_push are expected, not one_shot_pull and two_shot
 */
#include <stdlib.h>
#include <string.h>

#include "testing.h"

#define BUFFERS 4

int main(int argc, char **argv)
{
    static const uint64_t counts[] = {16000, 60000, 9000, 40000}; /* one, two shots, and again */
    uint32_t *mine = malloc(60000 * sizeof(uint32_t));
    gpu_buffer_t buffers[BUFFERS];

    test_options(argc, argv, "rounds packets");
    test_begin(&argc, &argv, "alternate");
    test_use_gpu();
    for (int b = 0; b < BUFFERS; ++b) {
        buffers[b] = gpu_allocate(GPU_DEVICE, counts[b] * sizeof(uint32_t));
    }
    const car_counters_t before = test_counters();
    const uint32_t n = (uint32_t) test.size, rounds = (uint32_t) test_number("rounds", 200);
    for (uint32_t round = 0; round < rounds && 0 == test_failures(); ++round) {
        for (int b = 0; b < BUFFERS; ++b) {
            for (uint32_t i = 0; i < counts[b]; ++i) {
                mine[i] = (uint32_t) test_random(round, i) + (uint32_t) test.rank * (round + i);
            }
            gpu_write(buffers[b].address, mine, counts[b] * sizeof(uint32_t));
        }
        for (int b = 0; b < BUFFERS; ++b) { /* nothing in between */
            MPI_Allreduce(MPI_IN_PLACE, buffers[b].address, (int) counts[b], MPI_UINT32_T, MPI_SUM,
                          MPI_COMM_WORLD);
        }
        for (int b = 0; b < BUFFERS; ++b) {
            gpu_read(mine, buffers[b].address, counts[b] * sizeof(uint32_t));
            for (uint32_t i = 0; i < counts[b]; ++i) {
                const uint32_t wanted =
                    n * (uint32_t) test_random(round, i) + n * (n - 1) / 2 * (round + i);
                if (!CHECK(mine[i] == wanted, "round %u, call %d: element %u is %u, not %u", round,
                           b, i, mine[i], wanted)) {
                    break;
                }
            }
        }
    }
    const car_counters_t since = test_since(&before);
    const bool packets = 0 == strcmp("yes", test_option("packets", "no"));
    const unsigned long long one_shot =
        packets ? since.calls_one_shot_push : since.calls_one_shot_pull;
    const unsigned long long two_shot = packets ? since.calls_two_shot_push : since.calls_two_shot;
    CHECK(test_failures() > 0 || (2 * rounds == one_shot && 2 * rounds == two_shot),
          "%llu calls in one shot, %llu in two", one_shot, two_shot);
    for (int b = 0; b < BUFFERS; ++b) {
        gpu_free(&buffers[b]);
    }
    free(mine);
    return test_end("%u rounds, %llu blocks that left", rounds, since.relaunches);
}
