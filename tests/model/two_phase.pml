/*
 * two_phase on one communicator's lane: chunks k = 1, 2, ... of operations that go on side by side, staged or zero copy.
 *
 * Data are the number of the chunk that they belong to. A rank has up to two chunks under way and enters them in order,
 * each as soon as it likes; the first rank to enter one chooses its form. A zero-copy operation is one chunk, in place: its
 * result is marked. Numbers are made relative whenever all ranks have gone on by four, so any number of chunks is covered.
 * What a kernel does is one step, and what the host publishes another.
 */
#include "common.pml"

#define M 2 /* staging slots, and chunks under way */

#ifdef MUTATION_one_slot
#define SLOT(r, k) ((r) * M)
#else
#define SLOT(r, k) ((r) * M + (k) % M)
#endif

#define RESULT 64
#define USER(r, k, share) (((r) * M + (k) % M) * N + (share))

byte staged[N]; /* the control segment */
byte done[N];
byte slot[M * N];     /* device memory: staging */
byte user[N * M * N]; /* a user's buffer of a zero-copy operation, by shares; 0: the user does something else with it */

/* How far a rank is: chunks entered, staged (by its kernel), folded (by its kernel), completed: returned to the user. */
byte entered[N];
byte copied[N];
byte folded[N];
byte completed[N];
bit zero_copy[4]; /* the form of a chunk, modulo 4 */

hidden byte x, y;

#define KNOWN(k) (entered[0] >= (k) || entered[1] >= (k) || entered[N - 1] >= (k))

#ifdef MUTATION_early_slot
#define IS_FREE(q) true
#else
#define IS_FREE(q) (done[q] + M >= copied[r] + 1)
#endif
#ifdef MUTATION_early_fold
#define IS_STAGED(q) (r != (q) || staged[q] > folded[r])
#else
#define IS_STAGED(q) (staged[q] > folded[r])
#endif
#ifdef MUTATION_early_return
#define IS_DONE(q) (r != (q) || done[q] > completed[r])
#else
#define IS_DONE(q) (done[q] > completed[r])
#endif

#define LESS(number) number = (((number) & (RESULT - 1)) > 4 -> (number) - 4 : 0)

inline shift()
{
    if
    :: completed[0] > 4 && completed[1] > 4 && completed[N - 1] > 4 ->
        for (x : 0 .. N - 1) {
            LESS(staged[x]);
            LESS(done[x]);
            LESS(entered[x]);
            LESS(copied[x]);
            LESS(folded[x]);
            LESS(completed[x])
        }
        for (x : 0 .. M * N - 1) {
            LESS(slot[x])
        }
        for (x : 0 .. M * N * N - 1) {
            LESS(user[x])
        }
    :: else
    fi;
    x = 0
}

/* The chunks that the rank is about to enter, copy, fold and complete. */
#define NEXT(counter) (counter[r] + 1)
#define FORM(k) zero_copy[(k) % 4]

inline enter()
{
    if
    :: KNOWN(NEXT(entered))
    :: !KNOWN(NEXT(entered)) -> FORM(NEXT(entered)) = 0
    :: !KNOWN(NEXT(entered)) -> FORM(NEXT(entered)) = 1
    fi;
    entered[r]++;
    if
    :: FORM(entered[r]) ->
        for (x : 0 .. N - 1) {
            user[USER(r, entered[r], x)] = entered[r]
        }
    :: else
    fi
}

inline fold()
{
    for (x : 0 .. N - 1) {
        if
        :: FORM(NEXT(folded)) ->
            assert(user[USER(x, NEXT(folded), r)] == NEXT(folded)); /* the input is there, and nobody has written on it */
            user[USER(x, NEXT(folded), r)] = RESULT + NEXT(folded)
        :: else ->
            assert(slot[SLOT(x, NEXT(folded))] == NEXT(folded)) /* the chunk is there */
        fi
    }
    folded[r]++
}

inline complete()
{
    if
    :: FORM(NEXT(completed)) ->
        for (x : 0 .. N - 1) {
            assert(user[USER(r, NEXT(completed), x)] == RESULT + NEXT(completed)); /* the result is there */
            user[USER(r, NEXT(completed), x)] = 0
        }
    :: else
    fi;
    completed[r]++;
    /* What nobody looks at again is as if it had never been. */
    if
    :: completed[0] >= completed[r] && completed[1] >= completed[r] && completed[N - 1] >= completed[r] ->
        FORM(completed[r]) = 0;
        for (x : 0 .. N - 1) {
            slot[SLOT(x, completed[r])] = (slot[SLOT(x, completed[r])] <= completed[r] -> 0 : slot[SLOT(x, completed[r])])
        }
    :: else
    fi;
    shift()
}

proctype rank(byte r)
{
    do
    :: atomic { entered[r] < completed[r] + M -> enter() }
       /* phase 1: the kernel copies the input into the slot, which takes time; then the host says so */
    :: d_step {
        copied[r] < entered[r] && !FORM(NEXT(copied)) && copied[r] == staged[r] && EVERY(IS_FREE) ->
        slot[SLOT(r, NEXT(copied))] = 0;
#ifdef MUTATION_staged_before_copied
        staged[r] = NEXT(copied);
#endif
       }
       d_step { copied[r]++; slot[SLOT(r, copied[r])] = copied[r] }
    :: d_step { copied[r] < entered[r] && FORM(NEXT(copied)) && copied[r] == staged[r] -> copied[r]++ }
    :: staged[r] < copied[r] -> staged[r] = copied[r]
       /* phase 2 */
    :: d_step {
        folded[r] < copied[r] && folded[r] == done[r] && EVERY(IS_STAGED) ->
#ifdef MUTATION_done_before_folded
        done[r] = NEXT(folded);
#else
        fold()
#endif
       }
#ifdef MUTATION_done_before_folded
       d_step { fold() }
#endif
    :: done[r] < folded[r] -> done[r] = folded[r]
    :: d_step { completed[r] < done[r] && (!FORM(NEXT(completed)) || EVERY(IS_DONE)) -> complete() }
    od
}

init
{
    atomic {
        for (x : 0 .. N - 1) {
            run rank(x)
        }
    }
}
