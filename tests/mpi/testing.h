/*
 * What all test programs share: options, checks, the component's counters, a verdict that all ranks
 * agree on.
 *
 * A program ends with "ok NAME: ..." from rank 0 and status 0, or says where it failed and ends
 * with status 1. Where it cannot run here it says "skip NAME: why" and ends with status 0: without
 * an "ok" that is no pass.
 */
#ifndef TEST_TESTING_H
#define TEST_TESTING_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#include "car_params.h"
#include "gpu.h"

typedef struct {
    const char *name; /* of the program */
    int rank, size;   /* in MPI_COMM_WORLD */
    int local_rank;   /* on this node */
    bool counted;     /* coll/car is loaded: its counters exist */
} test_t;

extern test_t test;

/* `options`: the names that "--NAME VALUE" may have, separated by spaces. */
void test_options(int argc, char **argv, const char *options);
const char *test_option(const char *name, const char *otherwise);
long test_number(const char *name, long otherwise);
/* Whether a name is one of a list's, which are separated by commas. */
bool test_listed(const char *name, const char *list);
/*
 * As Open MPI will read that parameter of coll/car from the environment; `otherwise` if it is not
 * set.
 */
const char *test_mca(const char *parameter, const char *otherwise);

/* MPI_Init_thread, counters, rank and size. */
void test_begin(int *argc, char ***argv, const char *name);
/* The same with that level of threads, or a skip. */
void test_begin_threads(int *argc, char ***argv, const char *name, int level);
/*
 * Where there are sessions only: counters, and rank and size in a communicator of all ranks, of one
 * node.
 */
void test_begin_without_world(const char *name, MPI_Comm all);
/*
 * The primary context of device local_rank modulo their number becomes current. No driver: skips
 * the program.
 */
void test_use_gpu(void);

/* Prints "skip", finalizes, exits. Collective: all ranks for the same reason. */
void test_skip(const char *why) __attribute__((noreturn));
/* Agrees with all ranks, prints "ok", finalizes, and returns what main returns. */
int test_end(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For processes whose failures others tell: finalizes, and returns what main returns. */
int test_end_silently(void);

/* Counts and shows a failure of this rank; the first few only. */
#define CHECK(condition, ...) test_check((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)
bool test_check(bool holds, const char *file, int line, const char *condition, const char *format,
                ...) __attribute__((format(printf, 5, 6)));
int test_failures(void);

/* The component's counters; all zero where it is not loaded. */
car_counters_t test_counters(void);
car_counters_t test_since(const car_counters_t *before);
/* Calls that kernels served. */
unsigned long long test_served(const car_counters_t *c);
/* Calls that the saved module had. */
unsigned long long test_left(const car_counters_t *c);

/* A duplicate where coll/car is not used. */
MPI_Comm test_without_car(MPI_Comm comm);

/* Host memory; without it the job ends. */
void *test_allocate(size_t bytes);

/* Milliseconds since some moment. */
double test_ms(void);

/* A hash: the n-th number of a sequence. */
uint64_t test_random(uint64_t seed, uint64_t n);

#endif /* TEST_TESTING_H */
