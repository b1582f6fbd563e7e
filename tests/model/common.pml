/*
 * What the models share. docs/protocol.md, "Model", says what they show, and maps their names to the code.
 *
 *   N              ranks, 2 or 3
 *   MUTATION_name  a safeguard that is left out: the model must then fail
 */
#ifndef N
#define N 2
#endif

#define ALL ((1 << N) - 1)

/* A condition on every rank. */
#if N == 2
#define EVERY(holds) (holds(0) && holds(1))
#else
#define EVERY(holds) (holds(0) && holds(1) && holds(2))
#endif

#define OTHER(r, i) (((r) + (i)) % N)
