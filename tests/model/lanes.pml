/*
 * Operations of two communicators and blocking calls of a third, by ranks that share one GPU whose kernels take turns.
 *
 * Each rank starts an operation on either communicator, in an order of its own, makes a blocking call, and waits for the two
 * operations, before or after the call, as it likes; and so on for ever. It makes progress only while it is inside MPI. What
 * is shown is that nobody hangs.
 */
#include "common.pml"

#define LANES 2

byte staged[LANES * N]; /* the control segment: the operation of the lane that the rank has staged, folded and published */
byte done[LANES * N];
byte started[LANES * N];
byte published[N]; /* the blocking call whose data the rank's kernel has sent */
byte calls[N];
bit first[N]; /* the lane that the rank started first */

byte gpu; /* the kernel that runs on it: 1 + rank, 0: none */

hidden byte x;

#define W(r, lane) ((r) * LANES + (lane))
#define AT(q, lane) (staged[W(q, lane)] >= started[W(r, lane)])
#define STAGED_0(q) AT(q, 0)
#define STAGED_1(q) AT(q, 1)
#define SENT(q) (published[q] >= calls[r])
#define POSTED(q) (calls[q] >= calls[r])
#define PENDING(lane) (done[W(r, lane)] < started[W(r, lane)])

/* What is over on all ranks counts no more. */
#define LATER(q) (calls[q] > 1)
#define OVER_0(q) (done[W(q, 0)] > 0)
#define OVER_1(q) (done[W(q, 1)] > 0)

inline shift_lane(lane)
{
    for (x : 0 .. N - 1) {
        staged[W(x, lane)]--;
        done[W(x, lane)]--;
        started[W(x, lane)]--
    }
}

inline shift()
{
    if
    :: EVERY(OVER_0) -> shift_lane(0)
    :: else
    fi;
    if
    :: EVERY(OVER_1) -> shift_lane(1)
    :: else
    fi;
    if
    :: EVERY(LATER) ->
        for (x : 0 .. N - 1) {
            calls[x]--;
            published[x]--
        }
    :: else
    fi;
    x = 0
}

/* An operation may go on: all in any order, or only the one that was started first. */
#ifdef MUTATION_one_lane
#define TURN(lane) (first[r] == (lane) || !PENDING(1 - (lane)))
#else
#define TURN(lane) true
#endif

/* A kernel of a lane does its work and ends. */
#define FREE (gpu == 0)

#ifdef MUTATION_kernels_wait
#define FOLDS(lane, all_staged)                                                                                        \
    :: d_step { FREE && PENDING(lane) && TURN(lane) && staged[W(r, lane)] == started[W(r, lane)] -> gpu = 1 + r }      \
       d_step { EVERY(all_staged) -> done[W(r, lane)] = started[W(r, lane)]; gpu = 0 }
#else
#define FOLDS(lane, all_staged)                                                                                        \
    :: d_step { FREE && PENDING(lane) && TURN(lane) && EVERY(all_staged) -> done[W(r, lane)] = started[W(r, lane)] }
#endif

#define STAGES(lane)                                                                                                   \
    :: d_step {                                                                                                        \
        FREE && PENDING(lane) && TURN(lane) && staged[W(r, lane)] < started[W(r, lane)] ->                             \
        staged[W(r, lane)] = started[W(r, lane)]                                                                       \
       }

#define PROGRESS STAGES(0) STAGES(1) FOLDS(0, STAGED_0) FOLDS(1, STAGED_1)

#ifdef MUTATION_no_progress_in_calls
#define PROGRESS_IN_CALL
#else
#define PROGRESS_IN_CALL PROGRESS
#endif

inline wait_for_both()
{
    do
    :: !PENDING(0) && !PENDING(1) -> break
    PROGRESS
    od
}

inline blocking_call()
{
    calls[r]++;
    do
    :: d_step { FREE -> gpu = 1 + r; published[r] = calls[r] }
       if
       :: d_step { EVERY(SENT) -> gpu = 0 } break
#ifndef MUTATION_kernel_never_leaves
       :: d_step { !EVERY(SENT) -> gpu = 0 }
          /* wait_for_peers */
          do
          :: EVERY(POSTED) -> break
          PROGRESS_IN_CALL
          od
#endif
       fi
    PROGRESS_IN_CALL
    od
}

inline start(lane)
{
    started[W(r, lane)]++
}

proctype rank(byte r)
{
    do
    :: if
       :: first[r] = 0
       :: first[r] = 1
       fi;
       start(first[r]);
       start(1 - first[r]);
       if
       :: blocking_call(); wait_for_both()
       :: wait_for_both(); blocking_call()
       fi;
       atomic { shift() }
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
