/*
 * The kernels' protocol: epochs, slots, flags, packets, leaving and coming back, one call after the other.
 *
 * Data are the number of the exchange that they belong to; the place where they lie says who wrote them, for whom. All
 * ranks make the same calls: the first to enter one chooses algorithm, exchanges and grid for all. Numbers are made
 * relative whenever the slowest rank has finished two exchanges more, or four with pull (`shift`), so the model has finitely
 * many states for any number of calls in sequence.
 *
 *   ROUNDS      exchanges of a call: 1 to ROUNDS
 *   ALGORITHMS  a set of PUSH, PULL, TWO_SHOT, TWO_PHASE, TWO_SHOT_PUSH, by bits
 *   LEAVE       0: blocks wait for ever, so that a deadlock is a state without a successor; 1: each may leave once in a
 *               call, and deadlocks are still such states; 2: any number of times
 *   SPLIT       a rank may do a call of several exchanges in several launches (buffers that are staged)
 *   FINE        stores for different peers become visible one by one, not all at once
 *   FAULT       one rank fails, at any moment of a call
 *   RENEW       calls count from epoch 1 on, and before LAST_EPOCH is passed all ranks clear and begin again; a larger piece
 *               may be taken before any call. CALLS calls
 *   EAGER       a kernel is launched again without waiting for the peers' lines
 */
#include "common.pml"

#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef ALGORITHMS
#define ALGORITHMS 31
#endif
#ifndef LEAVE
#define LEAVE 0
#endif
#ifndef LAST_EPOCH
#define LAST_EPOCH 5
#endif
#ifndef CALLS
#define CALLS 4
#endif

#define B 2 /* blocks of the larger grid */

#define PUSH 0
#define PULL 1
#define TWO_SHOT 2
#define TWO_PHASE 3
#define TWO_SHOT_PUSH 4

#define STAGED 0
#define REDUCED 1

#if defined(MUTATION_one_slot)
#define SLOT(e) 0
#else
#define SLOT(e) ((e) % 2)
#endif

/* one_shot_pull cuts each slot in halves: half e / 2 % 2 of slot e % 2 */
#if defined(MUTATION_one_slot)
#define PULL_SLOT(e) 0
#elif defined(MUTATION_no_halves)
#define PULL_SLOT(e) ((e) % 2)
#else
#define PULL_SLOT(e) ((e) % 4)
#endif

/* After so many exchanges all use the same slots again. */
#if ALGORITHMS / 2 % 2
#define TURN 4
#else
#define TURN 2
#endif

#if defined(MUTATION_two_phase_one_slot)
#define TP_SLOT(k) 0
#else
#define TP_SLOT(k) ((k) % 2)
#endif

/* --- device memory: a piece of each rank ------------------------------------------------------------------------- */

/*
 * one_shot_push: inbox [owner][slot][source][block]. two_shot: scatter and gather, the same. one_shot_pull: staging.
 * two_shot_push: operands and results, in the places of one_shot_push's packets.
 */
byte packet[N * 2 * N * B];
byte operand[N * 2 * N * B];
byte result[N * 2 * N * B];
byte scatter[N * 2 * N * B];
byte gather[N * 2 * N * B];
byte staging[N * 4 * B]; /* [owner][slot of pull][block] */
byte flag[N * 2 * B * N]; /* [owner][kind][block][source] */

#define INBOX(owner, slot, source, b) ((((owner) * 2 + (slot)) * N + (source)) * B + (b))
#define STAGE(owner, slot, b) (((owner) * 4 + (slot)) * B + (b))
#define FLAG(owner, kind, b, source) flag[(((owner) * 2 + (kind)) * B + (b)) * N + (source)]

/* Where memory has not been cleared, words may look like an epoch: data that nobody sent. */
#define BOGUS 128
#define EPOCH_OF(x) ((x) & 127)

/* --- the state of ranks and blocks --------------------------------------------------------------------------------- */

byte published[N * B]; /* car_progress_t: all exchanges below have been published */
byte reduced[N * B];
byte finished[N * B];
byte staged[N * B]; /* one_shot_pull only */
#define ME (r * B + b)

byte algorithm[N];
byte epoch[N]; /* the first exchange of the rank's call, or of its next one */
byte first[N]; /* the launch does first .. stop - 1, the call epoch .. last - 1 */
byte stop[N];
byte last[N];
byte grid[N];
byte running[N];  /* blocks of the launch that have not ended */
byte left[N];     /* blocks of it that have ended unfinished */

/* --- calls: the plan that all ranks share ---------------------------------------------------------------------------- */

/* Calls in turn use the two sets, as ranks are at most one call apart. `joined`: the ranks that have entered it. */
byte joined[2] = ALL;
byte plan_algorithm[2];
byte plan_rounds[2];
byte plan_grid[2];
#ifdef RENEW
bit plan_grows[2];
#endif

byte broken;

/* two_phase: the words of the control segment, and the staging slots; chunks count on their own. */
byte tp_staged[N];
byte tp_done[N];
byte tp_slot[N * 2];
byte tp_next[N];  /* the next chunk that the rank stages, and folds: all below it are */
byte tp_fold[N];
byte tp_end[N];

#if LEAVE > 0
byte high[N * B]; /* ghost: a block has written output for all exchanges below */
#endif
#if LEAVE == 1
byte has_left[N]; /* blocks that have left in this call */
#endif

hidden byte i, j, x;

/* --- ghost: what may be overwritten ----------------------------------------------------------------------------------- */

#define OF_CALL(tag) ((tag) >= epoch[r] && (tag) < last[r])

/*
 * A slot of staging is cut differently from call to call: what a call writes there may lie on anything that another call
 * has left in the slot. Pull writes in its half of it.
 */
inline spoil_pulled(owner, half)
{
    for (x : 0 .. B - 1) {
        if
        :: !OF_CALL(staging[STAGE(owner, half, x)]) -> staging[STAGE(owner, half, x)] = 0
        :: else
        fi
    }
}

inline spoil(owner, slot)
{
    if
    :: algorithm[r] != PULL -> spoil_pulled(owner, slot); spoil_pulled(owner, slot + 2)
    :: else
    fi;
    for (x : 0 .. N * B - 1) {
        if
        :: !OF_CALL(scatter[INBOX(owner, slot, 0, 0) + x]) -> scatter[INBOX(owner, slot, 0, 0) + x] = 0
        :: else
        fi;
        if
        :: !OF_CALL(gather[INBOX(owner, slot, 0, 0) + x]) -> gather[INBOX(owner, slot, 0, 0) + x] = 0
        :: else
        fi
#ifdef MUTATION_packets_in_staging
        ; packet[INBOX(owner, slot, 0, 0) + x] = BOGUS + published[ME] + 2; /* data may look like any epoch */
        operand[INBOX(owner, slot, 0, 0) + x] = BOGUS + published[ME] + 2;
        result[INBOX(owner, slot, 0, 0) + x] = BOGUS + published[ME] + 2
#endif
    }
}

/*
 * So is the part of a source in a slot of the inbox for packets: calls cut it differently, and those of two_shot_push into operands
 * and results. What a packet may come to lie on, its block has to have received, or folded. Within a call that is its own place.
 */
#define OVERWRITE(place, done, b)                                                                                      \
    for (x : 0 .. B - 1) {                                                                                             \
        j = place[INBOX(owner, slot, r, x)];                                                                           \
        if                                                                                                             \
        :: j != 0 && j < BOGUS && (x == (b) || !OF_CALL(j)) ->                                                         \
            assert(done[(owner) * B + x] > j); /* no packet is overwritten before it has been read */                  \
            place[INBOX(owner, slot, r, x)] = 0                                                                        \
        :: else                                                                                                        \
        fi                                                                                                             \
    }

#define NO_BLOCK B

inline overwrite(owner, slot, packet_of, operand_of, result_of)
{
    OVERWRITE(packet, finished, packet_of)
    OVERWRITE(operand, reduced, operand_of)
    OVERWRITE(result, finished, result_of)
}

/* --- ghost: what is forgotten --------------------------------------------------------------------------------------- */

/*
 * Words that nobody will look for again are set to 0, as if never written: that changes nothing that a rank can see, since
 * it waits for larger numbers only, and leaves fewer states. Not where the numbers begin again.
 */
#ifdef RENEW
#define FORGET(word) skip
#define FORGET_UP_TO(word, number) skip
#else
#define FORGET(word) word = 0
#define FORGET_UP_TO(word, number) word = (word <= (number) -> 0 : word)
#endif

/* --- a block ------------------------------------------------------------------------------------------------------- */

/* The input is read when it is published, in pull when it is staged; in place, the output lies on it. */
#if LEAVE > 0
#define INPUT_IS_INTACT(e) assert((e) >= high[ME]) /* no input is read after output has been written on it */
#define WRITES_OUTPUT(e) high[ME] = (high[ME] > (e) + 1 -> high[ME] : (e) + 1)
#else
#define INPUT_IS_INTACT(e) skip
#define WRITES_OUTPUT(e) skip
#endif

/* Whether the stores for all peers are one step (docs/protocol.md, "Model"). */
#ifdef FINE
#define NEXT_PEER break
#else
#define NEXT_PEER skip
#endif

#define RUNS (running[r] & (1 << b))
#define ENDS(unfinished) running[r] = running[r] & ~(1 << b); left[r] = left[r] | ((unfinished) << b)

/* car_end */
inline end_if_finished()
{
    if
    :: finished[ME] == stop[r] -> ENDS(0)
    :: else
    fi
}

/* one_shot_push, car_send */
inline send()
{
    INPUT_IS_INTACT(published[ME]);
    do
    :: overwrite(OTHER(r, to), SLOT(published[ME]), b, NO_BLOCK, NO_BLOCK);
       packet[INBOX(OTHER(r, to), SLOT(published[ME]), r, b)] = published[ME];
       to++;
       if
       :: to == N -> to = 1; published[ME]++; break
       :: else -> NEXT_PEER
       fi
    od;
    i = 0
}

/* one_shot_pull, car_pull_stage */
inline stage()
{
    INPUT_IS_INTACT(staged[ME]);
    spoil(r, SLOT(staged[ME]));
    spoil_pulled(r, PULL_SLOT(staged[ME]));
    staging[STAGE(r, PULL_SLOT(staged[ME]), b)] = staged[ME];
    staged[ME]++
}

/* one_shot_pull, car_pull_publish */
inline publish()
{
    if
    :: to == 1 && staged[ME] == published[ME] -> stage()
#ifdef MUTATION_stage_early
    :: to == 1 && staged[ME] == published[ME] + 1 && staged[ME] < stop[r] -> stage()
#endif
    :: else
    fi;
    do
    :: FLAG(OTHER(r, to), STAGED, b, r) = published[ME];
       to++;
       if
       :: to == N -> to = 1; published[ME]++; break
       :: else -> NEXT_PEER
       fi
    od;
    i = 0
}

/* two_shot, car_scatter */
inline scatter_shares()
{
    INPUT_IS_INTACT(published[ME]);
    do
    :: spoil(OTHER(r, to), SLOT(published[ME]));
       scatter[INBOX(OTHER(r, to), SLOT(published[ME]), r, b)] = published[ME];
       FLAG(OTHER(r, to), STAGED, b, r) = published[ME];
       to++;
       if
       :: to == N -> to = 1; published[ME]++; break
       :: else -> NEXT_PEER
       fi
    od;
    i = 0
}

/* two_shot, car_reduce_share */
inline reduce_share()
{
    if
    :: to == 1 ->
        for (i : 1 .. N - 1) {
            assert(scatter[INBOX(r, SLOT(reduced[ME]), OTHER(r, i), b)] == reduced[ME]) /* the operands are there */
        }
    :: else /* peers that have been told may send the next but one */
    fi;
    do
    :: spoil(OTHER(r, to), SLOT(reduced[ME]));
       gather[INBOX(OTHER(r, to), SLOT(reduced[ME]), r, b)] = reduced[ME];
       FLAG(OTHER(r, to), REDUCED, b, r) = reduced[ME];
       to++;
       if
       :: to == N ->
           to = 1;
           for (i : 1 .. N - 1) {
               FORGET_UP_TO(scatter[INBOX(r, SLOT(reduced[ME]), OTHER(r, i), b)], reduced[ME]);
               FORGET_UP_TO(FLAG(r, STAGED, b, OTHER(r, i)), reduced[ME])
           }
           WRITES_OUTPUT(reduced[ME]);
           reduced[ME]++;
           break
       :: else -> NEXT_PEER
       fi
    od;
    i = 0
}

/* two_shot, car_gather */
inline gather_shares()
{
    for (i : 1 .. N - 1) {
        assert(gather[INBOX(r, SLOT(finished[ME]), OTHER(r, i), b)] == finished[ME]) /* the results are there */
        FORGET(gather[INBOX(r, SLOT(finished[ME]), OTHER(r, i), b)]);
        FORGET_UP_TO(FLAG(r, REDUCED, b, OTHER(r, i)), finished[ME])
    }
    finished[ME]++;
    end_if_finished()
}

/* two_shot_push, car_scatter_units */
inline scatter_units()
{
    INPUT_IS_INTACT(published[ME]);
    do
    :: overwrite(OTHER(r, to), SLOT(published[ME]), NO_BLOCK, b, NO_BLOCK);
       operand[INBOX(OTHER(r, to), SLOT(published[ME]), r, b)] = published[ME];
       to++;
       if
       :: to == N -> to = 1; published[ME]++; break
       :: else -> NEXT_PEER
       fi
    od;
    i = 0
}

/* two_shot_push, car_reduce_unit */
inline reduce_unit()
{
    INPUT_IS_INTACT(reduced[ME]); /* by a block that has left, once more */
    for (i : 1 .. N - 1) {
        assert(operand[INBOX(r, SLOT(reduced[ME]), OTHER(r, i), b)] == reduced[ME]) /* data, not what looks like it */
    }
    do
    :: overwrite(OTHER(r, to), SLOT(reduced[ME]), NO_BLOCK, NO_BLOCK, b);
       result[INBOX(OTHER(r, to), SLOT(reduced[ME]), r, b)] = reduced[ME];
       to++;
       if
       :: to == N ->
           to = 1;
           for (i : 1 .. N - 1) {
               FORGET(operand[INBOX(r, SLOT(reduced[ME]), OTHER(r, i), b)])
           }
           WRITES_OUTPUT(reduced[ME]);
           reduced[ME]++;
           break
       :: else -> NEXT_PEER
       fi
    od;
    i = 0
}

/* two_shot_push, car_gather_units */
inline gather_units()
{
    for (i : 1 .. N - 1) {
        assert(result[INBOX(r, SLOT(finished[ME]), OTHER(r, i), b)] == finished[ME]) /* the results are there */
        FORGET(result[INBOX(r, SLOT(finished[ME]), OTHER(r, i), b)])
    }
    finished[ME]++;
    end_if_finished()
}

/* one_shot_push, car_receive and the output */
inline receive()
{
    for (i : 1 .. N - 1) {
        assert(packet[INBOX(r, SLOT(finished[ME]), OTHER(r, i), b)] == finished[ME]) /* data, not what looks like it */
        FORGET(packet[INBOX(r, SLOT(finished[ME]), OTHER(r, i), b)])
    }
    WRITES_OUTPUT(finished[ME]);
    finished[ME]++;
    reduced[ME] = finished[ME];
    end_if_finished()
}

#define READ_BY(reader) (finished[(reader) * B + b] >= finished[ME])

/* one_shot_pull, car_pull_fold */
inline fold()
{
    for (i : 1 .. N - 1) {
        assert(staging[STAGE(OTHER(r, i), PULL_SLOT(finished[ME]), b)] == finished[ME]) /* the operands are there */
        FORGET_UP_TO(FLAG(r, STAGED, b, OTHER(r, i)), finished[ME])
    }
    assert(staging[STAGE(r, PULL_SLOT(finished[ME]), b)] == finished[ME]); /* its own, too */
    WRITES_OUTPUT(finished[ME]);
    if
    :: staged[ME] != stop[r] -> stage()
    :: else
    fi;
    finished[ME]++;
    reduced[ME] = finished[ME];
    /* Staging that all have read. */
    if
    :: READ_BY(0) && READ_BY(1) && READ_BY(N - 1) ->
        for (i : 0 .. N - 1) {
            FORGET(staging[STAGE(i, PULL_SLOT(finished[ME] - 1), b)])
        }
    :: else
    fi;
    end_if_finished()
}

/* car_wait: a flag that is past the exchange says as much */
#ifdef MUTATION_flag_equal
#define REACHES ==
#else
#define REACHES >=
#endif
#define ARRIVED(q) (r == (q) || EPOCH_OF(packet[INBOX(r, SLOT(finished[ME]), q, b)]) == finished[ME])
#define SENT_OPERAND(q) (r == (q) || EPOCH_OF(operand[INBOX(r, SLOT(reduced[ME]), q, b)]) == reduced[ME])
#define SENT_RESULT(q) (r == (q) || EPOCH_OF(result[INBOX(r, SLOT(finished[ME]), q, b)]) == finished[ME])
#define HEARD_STAGED(q) (r == (q) || FLAG(r, STAGED, b, q) REACHES reduced[ME])
#define HEARD_REDUCED(q) (r == (q) || FLAG(r, REDUCED, b, q) REACHES finished[ME])
#ifdef MUTATION_no_wait_packet
#define ALL_ARRIVED true
#else
#define ALL_ARRIVED EVERY(ARRIVED)
#endif
#ifdef MUTATION_no_wait_operand
#define ALL_OPERANDS true
#else
#define ALL_OPERANDS EVERY(SENT_OPERAND)
#endif
#ifdef MUTATION_no_wait_result
#define ALL_RESULTS true
#else
#define ALL_RESULTS EVERY(SENT_RESULT)
#endif
#ifdef MUTATION_no_wait_staged
#define ALL_STAGED true
#else
#define ALL_STAGED EVERY(HEARD_STAGED)
#endif
#ifdef MUTATION_no_wait_reduced
#define ALL_REDUCED true
#else
#define ALL_REDUCED EVERY(HEARD_REDUCED)
#endif

/* I2 */
#ifdef MUTATION_no_I2
#define MAY_SEND (published[ME] < stop[r])
#define ROOM true
#else
#define MAY_SEND (published[ME] < stop[r] && published[ME] == finished[ME])
#define ROOM (published[ME] - finished[ME] < 2)
#endif

/* I7 */
#ifdef MUTATION_no_I7
#define LAST_MAY true
#else
#define LAST_MAY (published[ME] + 1 != stop[r] || published[ME] == finished[ME])
#endif
#define MAY_PUBLISH (published[ME] < stop[r] && ROOM && LAST_MAY)

/* I5: car_may_publish; the loop of car_two_shot_push */
#ifdef MUTATION_no_I5
#define SECOND_MAY true
#else
#define SECOND_MAY (published[ME] == epoch[r] || reduced[ME] != epoch[r])
#endif
#ifdef MUTATION_no_I5
#define NEXT_MAY (published[ME] - finished[ME] < 2)
#else
#define NEXT_MAY (published[ME] == reduced[ME])
#endif
#define MAY_SCATTER_UNITS (published[ME] < stop[r] && NEXT_MAY)
#define MAY_SCATTER (published[ME] < stop[r] && ROOM && SECOND_MAY)

/* I4 */
#ifdef MUTATION_no_I4
#define REDUCES (reduced[ME] < published[ME] && (algorithm[r] == TWO_SHOT_PUSH -> ALL_OPERANDS : ALL_STAGED))
#define GATHERS (reduced[ME] > finished[ME])
#else
#define REDUCES (reduced[ME] == finished[ME])
#define GATHERS (reduced[ME] != finished[ME])
#endif

#define CAN_SEND (algorithm[r] == PUSH && MAY_SEND)
#define CAN_RECEIVE (algorithm[r] == PUSH && finished[ME] < published[ME] && ALL_ARRIVED)
#define CAN_PUBLISH (algorithm[r] == PULL && MAY_PUBLISH)
#define CAN_FOLD (algorithm[r] == PULL && !MAY_PUBLISH && finished[ME] < published[ME] && ALL_STAGED)
#define CAN_SCATTER (algorithm[r] == TWO_SHOT && MAY_SCATTER)
#define CAN_REDUCE (algorithm[r] == TWO_SHOT && finished[ME] < stop[r] && !MAY_SCATTER && REDUCES && ALL_STAGED)
#define CAN_GATHER (algorithm[r] == TWO_SHOT && finished[ME] < stop[r] && !MAY_SCATTER && !CAN_REDUCE && GATHERS && ALL_REDUCED)
#define CAN_SCATTER_UNITS (algorithm[r] == TWO_SHOT_PUSH && MAY_SCATTER_UNITS)
#define CAN_REDUCE_UNIT                                                                                                \
    (algorithm[r] == TWO_SHOT_PUSH && finished[ME] < stop[r] && !MAY_SCATTER_UNITS && REDUCES && ALL_OPERANDS)
#define CAN_GATHER_UNITS                                                                                               \
    (algorithm[r] == TWO_SHOT_PUSH && finished[ME] < stop[r] && !MAY_SCATTER_UNITS && !CAN_REDUCE_UNIT && GATHERS      \
     && ALL_RESULTS)

/* The last exchange of a call may have no elements for the last block: it takes part all the same. */
#ifdef MUTATION_empty_block
#define EMPTY (b > 0 && finished[ME] < stop[r] && finished[ME] + 1 == last[r])
#else
#define EMPTY false
#endif

#if LEAVE == 0
#define PATIENCE_ENDS false
#elif LEAVE == 1
#define PATIENCE_ENDS (!(has_left[r] & (1 << b)))
#else
#define PATIENCE_ENDS true
#endif

/* The end of the patience of a block that waits (car_patience_left). */
#define CANNOT_GO_ON                                                                                                   \
    (finished[ME] != stop[r] && !CAN_SEND && !CAN_RECEIVE && !CAN_PUBLISH && !CAN_FOLD && !CAN_SCATTER && !CAN_REDUCE     \
     && !CAN_GATHER && !CAN_SCATTER_UNITS && !CAN_REDUCE_UNIT && !CAN_GATHER_UNITS)

proctype block(byte r; byte b)
{
    byte to = 1; /* the next peer, counted from this rank */
end:
    do
    :: d_step { RUNS && !EMPTY && CAN_SEND -> send() }
    :: d_step { RUNS && !EMPTY && CAN_RECEIVE -> receive() }
    :: d_step { RUNS && !EMPTY && CAN_PUBLISH -> publish() }
    :: d_step { RUNS && !EMPTY && CAN_FOLD -> fold() }
    :: d_step { RUNS && !EMPTY && CAN_SCATTER -> scatter_shares() }
    :: d_step { RUNS && !EMPTY && CAN_REDUCE -> reduce_share() }
    :: d_step { RUNS && !EMPTY && CAN_GATHER -> gather_shares() }
    :: d_step { RUNS && !EMPTY && CAN_SCATTER_UNITS -> scatter_units() }
    :: d_step { RUNS && !EMPTY && CAN_REDUCE_UNIT -> reduce_unit() }
    :: d_step { RUNS && !EMPTY && CAN_GATHER_UNITS -> gather_units() }
#ifdef MUTATION_empty_block
    :: d_step {
        RUNS && EMPTY -> published[ME] = last[r]; reduced[ME] = last[r]; finished[ME] = last[r]; staged[ME] = last[r]; end_if_finished()
       }
#endif
#if LEAVE > 0
    :: d_step {
        RUNS && !EMPTY && PATIENCE_ENDS && CANNOT_GO_ON -> ENDS(1);
#if LEAVE == 1
        has_left[r] = has_left[r] | (1 << b)
#endif
       }
#endif
    od
}

/* --- the host --------------------------------------------------------------------------------------------------------- */

/* The first rank that enters a call says what it is. */
inline choose()
{
    if
    :: ALGORITHMS & (1 << PUSH) -> plan_algorithm[c] = PUSH
    :: ALGORITHMS & (1 << PULL) -> plan_algorithm[c] = PULL
    :: ALGORITHMS & (1 << TWO_SHOT) -> plan_algorithm[c] = TWO_SHOT
    :: ALGORITHMS & (1 << TWO_SHOT_PUSH) -> plan_algorithm[c] = TWO_SHOT_PUSH
    :: ALGORITHMS & (1 << TWO_PHASE) -> plan_algorithm[c] = TWO_PHASE
    fi;
    if
    :: plan_rounds[c] = 1
    :: ROUNDS >= 2 -> plan_rounds[c] = 2
    :: ROUNDS >= 3 -> plan_rounds[c] = 3
    :: ROUNDS >= 4 -> plan_rounds[c] = 4
    :: ROUNDS >= 5 -> plan_rounds[c] = 5
    fi;
    if
    :: plan_algorithm[c] != TWO_PHASE -> plan_grid[c] = B
    :: plan_grid[c] = 1
    fi;
#ifdef RENEW
    if
    :: plan_grows[c] = 1
    :: plan_grows[c] = 0
    fi
#endif
}

inline enter()
{
    if
    :: joined[c] == ALL -> joined[c] = 0; choose()
    :: else
    fi;
    assert(!(joined[c] & (1 << r))); /* nobody is two calls ahead of anybody */
    joined[c] = joined[c] | (1 << r);
    algorithm[r] = plan_algorithm[c];
    grid[r] = plan_grid[c];
    if
    :: algorithm[r] == TWO_PHASE -> tp_end[r] = tp_next[r] + plan_rounds[c]
    :: else -> first[r] = epoch[r]; last[r] = epoch[r] + plan_rounds[c]; stop[r] = last[r]
    fi
}

/* car_begin */
inline begin(from)
{
    for (x : 0 .. grid[r] - 1) {
        published[r * B + x] = from;
        reduced[r * B + x] = from;
        finished[r * B + x] = from;
        staged[r * B + x] = from
    }
}

inline launch(resume)
{
#ifdef MUTATION_resume_anew
    begin(first[r]);
#else
    if
    :: !(resume) -> begin(first[r])
    :: else
    fi;
#endif
    running[r] = (1 << grid[r]) - 1;
    left[r] = 0;
    /* Blocks that have finished end at once. */
    for (x : 0 .. grid[r] - 1) {
        if
        :: finished[r * B + x] == stop[r] -> running[r] = running[r] & ~(1 << x)
        :: else
        fi
    }
    x = 0
}

/* Numbers from all ranks' point of view: what lies below is finished everywhere, and cannot be told from memory never used. */
#define LESS(number, by) number = (number > (by) -> number - (by) : 0)

#ifdef RENEW
inline shift() { skip }
#else
inline shift()
{
    do
    :: (epoch[0] > TURN && epoch[1] > TURN && epoch[N - 1] > TURN) ->
        for (x : 0 .. N - 1) {
            epoch[x] = epoch[x] - TURN;
            LESS(first[x], TURN);
            LESS(stop[x], TURN);
            LESS(last[x], TURN)
        }
        for (x : 0 .. N * B - 1) {
            LESS(published[x], TURN);
            LESS(reduced[x], TURN);
            LESS(finished[x], TURN);
            LESS(staged[x], TURN);
#if LEAVE > 0
            LESS(high[x], TURN)
#endif
        }
        for (x : 0 .. N * 2 * N * B - 1) {
            LESS(packet[x], TURN);
            LESS(operand[x], TURN);
            LESS(result[x], TURN);
            LESS(scatter[x], TURN);
            LESS(gather[x], TURN);
            LESS(flag[x], TURN)
        }
        for (x : 0 .. N * 4 * B - 1) {
            LESS(staging[x], TURN)
        }
    :: else -> break
    od;
    if
    :: (epoch[0] > 1 && epoch[1] > 1 && epoch[N - 1] > 1) ->
        for (x : 0 .. N * 2 * N * B - 1) {
            FORGET_UP_TO(packet[x], 1);
            FORGET_UP_TO(operand[x], 1);
            FORGET_UP_TO(result[x], 1);
            FORGET_UP_TO(scatter[x], 1);
            FORGET_UP_TO(gather[x], 1);
            FORGET_UP_TO(flag[x], 1)
        }
        for (x : 0 .. N * 4 * B - 1) {
            FORGET_UP_TO(staging[x], 1)
        }
    :: else
    fi;
    do
    :: (tp_fold[0] > 2 && tp_fold[1] > 2 && tp_fold[N - 1] > 2) ->
        for (x : 0 .. N - 1) {
            tp_fold[x] = tp_fold[x] - 2;
            tp_next[x] = tp_next[x] - 2;
            LESS(tp_end[x], 2);
            LESS(tp_staged[x], 2);
            LESS(tp_done[x], 2)
        }
        for (x : 0 .. 2 * N - 1) {
            LESS(tp_slot[x], 2)
        }
    :: else -> break
    od;
    x = 0
}
#endif

/* The call returns: every block has written all of its output. */
inline complete()
{
    for (x : 0 .. grid[r] - 1) {
        assert(algorithm[r] == TWO_PHASE || finished[r * B + x] == last[r])
    }
    if
    :: algorithm[r] != TWO_PHASE -> epoch[r] = last[r]
    :: else
    fi;
    /* What a block that was not launched has in its numbers is not looked at again. */
    for (x : 0 .. B - 1) {
        published[r * B + x] = epoch[r];
        reduced[r * B + x] = epoch[r];
        finished[r * B + x] = epoch[r];
        staged[r * B + x] = epoch[r];
#if LEAVE > 0
        high[r * B + x] = epoch[r]
#endif
    }
    first[r] = epoch[r];
    stop[r] = epoch[r];
    last[r] = epoch[r];
    algorithm[r] = 0;
    grid[r] = 0;
    left[r] = 0;
#if LEAVE == 1
    has_left[r] = 0;
#endif
    shift();
    c = 1 - c
}

/* two_phase: chunk k is staged when chunk k - 2 is done on all ranks, and folded when all have staged it */
#ifdef MUTATION_two_phase_early_slot
#define SLOT_IS_FREE(q) true
#else
#define SLOT_IS_FREE(q) (tp_done[q] + 2 >= tp_next[r])
#endif
#ifdef MUTATION_two_phase_early_fold
#define IS_STAGED(q) (r != (q) || tp_staged[q] >= tp_fold[r])
#else
#define IS_STAGED(q) (tp_staged[q] >= tp_fold[r])
#endif

#ifdef EAGER
#define PEERS_ARE_THERE true
#else
#define PEERS_ARE_THERE (joined[c] == ALL)
#endif

#ifdef RENEW
/* --- the end of the epochs (renew), and a larger piece (car_comm_grow) ----------------------------------------------- */

byte recorded[N]; /* exchanges of records that the rank has begun */
#define RECORDED(q) (recorded[q] >= recorded[r])
#define RENEWS (epoch[r] + plan_rounds[c] > LAST_EPOCH + 1)

/*
 * The old piece is anybody's after this, the new one is clear. Staging is not cleared, but what lies there is nothing
 * to the epochs to come.
 */
inline clear()
{
    for (x : r * N * 2 * B .. (r + 1) * N * 2 * B - 1) {
#ifdef MUTATION_renewal_clears_nothing
        packet[x] = (packet[x] == 0 -> 0 : packet[x] | BOGUS);
        operand[x] = (operand[x] == 0 -> 0 : operand[x] | BOGUS);
        result[x] = (result[x] == 0 -> 0 : result[x] | BOGUS);
#else
        packet[x] = 0;
        operand[x] = 0;
        result[x] = 0;
        flag[x] = 0;
#endif
        scatter[x] = 0;
        gather[x] = 0
    }
    for (x : r * 4 * B .. (r + 1) * 4 * B - 1) {
        staging[x] = 0
    }
    x = 0
}

inline renew()
{
    if
    :: RENEWS || plan_grows[c] ->
#ifndef MUTATION_renewal_no_first_exchange
        recorded[r]++;
        EVERY(RECORDED);
#endif
        d_step { clear() }
#ifndef MUTATION_renewal_no_second_exchange
        recorded[r]++;
        EVERY(RECORDED);
#endif
        d_step {
            if
            :: RENEWS ->
                first[r] = 1;
                stop[r] = 1 + plan_rounds[c];
                last[r] = stop[r];
                epoch[r] = 1;
                for (x : 0 .. B - 1) {
                    published[r * B + x] = 1;
                    reduced[r * B + x] = 1;
                    finished[r * B + x] = 1;
                    staged[r * B + x] = 1;
#if LEAVE > 0
                    high[r * B + x] = 1
#endif
                }
            :: else
            fi
        }
    :: else
    fi
}
#endif

/* The first launch of a call. Returning, entering the next call and launching are one step: nobody sees them apart. */
inline start()
{
    if
    :: algorithm[r] != TWO_PHASE ->
#ifdef SPLIT
        if
        :: last[r] - first[r] > 1 -> stop[r] = first[r] + 1
        :: last[r] - first[r] > 2 -> stop[r] = first[r] + 2
        :: last[r] - first[r] > 3 -> stop[r] = first[r] + 3
        :: last[r] - first[r] > 4 -> stop[r] = first[r] + 4
        :: true
        fi;
#endif
        d_step { launch(0) }
    :: else
    fi
}

#ifdef MUTATION_no_I1
#define LAUNCH_IS_OVER (running[r] != (1 << grid[r]) - 1)
#else
#define LAUNCH_IS_OVER (running[r] == 0)
#endif
#define RETURNS                                                                                                        \
    (algorithm[r] == TWO_PHASE -> tp_fold[r] == tp_end[r] : LAUNCH_IS_OVER && left[r] == 0 && stop[r] == last[r])

proctype host(byte r)
{
    bit c;
#ifdef RENEW
    byte calls;
#endif
next_call:
#ifdef RENEW
    if
    :: calls == CALLS -> goto done
    :: calls < CALLS -> calls++
    fi;
    atomic { enter() }
    renew();
    atomic { start() }
#else
#ifdef FAULT
    if
    :: broken -> goto done
    :: else
    fi;
#endif
    atomic {
        enter();
        start()
    }
#endif
    do
    :: d_step {
        algorithm[r] == TWO_PHASE && tp_next[r] < tp_end[r] && EVERY(SLOT_IS_FREE) ->
        tp_slot[r * 2 + TP_SLOT(tp_next[r])] = tp_next[r];
        tp_staged[r] = tp_next[r];
        tp_next[r]++
       }
    :: d_step {
        algorithm[r] == TWO_PHASE && tp_fold[r] < tp_next[r] && EVERY(IS_STAGED) ->
        for (i : 0 .. N - 1) {
            assert(tp_slot[i * 2 + TP_SLOT(tp_fold[r])] == tp_fold[r]) /* the chunk is there */
        }
        tp_done[r] = tp_fold[r];
        tp_fold[r]++
       }
    :: atomic { RETURNS -> d_step { complete() } goto next_call }
#ifdef SPLIT
    :: d_step {
        running[r] == 0 && left[r] == 0 && stop[r] != last[r] -> first[r] = stop[r]; stop[r] = last[r]; launch(0)
       }
    :: d_step {
        running[r] == 0 && left[r] == 0 && last[r] - stop[r] > 1 -> first[r] = stop[r]; stop[r] = first[r] + 1; launch(0)
       }
    :: d_step {
        running[r] == 0 && left[r] == 0 && last[r] - stop[r] > 2 -> first[r] = stop[r]; stop[r] = first[r] + 2; launch(0)
       }
#endif
#if LEAVE > 0
    :: d_step { running[r] == 0 && left[r] != 0 && PEERS_ARE_THERE && !broken -> launch(1) }
#endif
#ifdef FAULT
    :: broken && (algorithm[r] == TWO_PHASE || (running[r] == 0 && left[r] != 0)) -> goto done
    :: d_step { !broken -> running[r] = 0; broken = 1 + r } goto done
#endif
    od;
done:
end:
    false
}

init
{
    atomic {
        for (x : 0 .. N - 1) {
            epoch[x] = 1;
            first[x] = 1;
            stop[x] = 1;
            last[x] = 1;
            tp_next[x] = 1;
            tp_fold[x] = 1
        }
        for (x : 0 .. N * B - 1) {
            published[x] = 1;
            reduced[x] = 1;
            finished[x] = 1;
            staged[x] = 1;
#if LEAVE > 0
            high[x] = 1
#endif
        }
#if defined(MUTATION_packets_not_cleared)
        for (x : 0 .. N * 2 * N * B - 1) {
            packet[x] = BOGUS + 1;
            operand[x] = BOGUS + 1;
            result[x] = BOGUS + 1
        }
#endif
#if defined(MUTATION_flags_not_cleared)
        for (x : 0 .. N * 2 * N * B - 1) {
            flag[x] = 1
        }
#endif
        for (x : 0 .. N - 1) {
            run host(x);
            for (j : 0 .. B - 1) {
                run block(x, j)
            }
        }
    }
}
