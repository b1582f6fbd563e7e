/*
 * The threads of a kernel that stays: one that stands for those that compute, and N that listen for the next call. The host makes CALLS
 * calls in turn, rings for each while the kernel is there, and launches the next one when it has gone.
 *
 * What is shown is that what the host rings for is taken by one listener, once, and computed as the host has said it; that a kernel
 * which has gone takes nothing more; and that all threads end. stay.pml shows what the host and several communicators do.
 */
#include "common.pml"

#ifndef CALLS
#define CALLS 4
#endif

#define WORDS 2 /* of a bell, and of a turn */
#define GO 100

byte bell[WORDS];     /* tickets */
byte says[WORDS];     /* arguments: the ticket once more, or GO */
byte done, did;       /* of the last call: the kernel's word, and that it has been computed */
byte gone;            /* number of the last stay that has gone */
byte number;          /* of the present one */
byte threads;         /* of it that have not ended */

/* The board. */
byte turn[2 * WORDS]; /* by the ticket's parity */
bit goes_on[2];
byte ended, claimed, ready;
bit over;

#define T(t, w) ((t) % 2 * WORDS + (w))

inline does(t, arguments)
{
    d_step {
        assert(did == t - 1);
        assert(arguments == t);
        did = t
    }
}

proctype computes(byte ticket; byte mine)
{
    byte arguments[WORDS];

    does(ticket, ticket);
    do
    :: true ->
        done = ticket;
        if
        :: break /* it has left a peer that is late; the host does not ring then */
        :: true
        fi;
        ended = ticket;
        ready == ticket + 1;
        if
        :: !goes_on[(ticket + 1) % 2] -> break
        :: else
        fi;
        ticket++;
        arguments[0] = turn[T(ticket, 0)];
        arguments[1] = turn[T(ticket, 1)];
        assert(arguments[0] == arguments[1]);
        does(ticket, arguments[0]);
        d_step { arguments[0] = 0; arguments[1] = 0 }
    od;
#ifndef MUTATION_no_over
    over = 1;
#endif
    skip;
    d_step { gone = mine; threads-- }
}

proctype listens(byte last)
{
    byte now;
    byte heard[WORDS];
    bit there, tired;

    do
    :: ended != last ->
        now = ended;
        do
        :: true ->
            d_step { there = (bell[0] == now + 1); heard[0] = says[0] }
            d_step { there = there && bell[1] == now + 1; heard[1] = says[1] }
            if
            :: there -> break
            :: !there -> tired = 1; break /* has waited long enough */
            :: !there && claimed != now -> break
            :: !there && claimed == now /* looks again */
            fi
        od;
        if
#ifdef MUTATION_tired_in_silence
        :: there ->
#else
        :: there || tired ->
#endif
#ifdef MUTATION_no_claim
            if
            :: true ->
#else
            if
            :: atomic { claimed == now -> claimed = now + 1 }
#endif
#ifdef MUTATION_ready_first
                ready = now + 1;
#endif
                turn[T(now + 1, 0)] = heard[0];
                turn[T(now + 1, 1)] = heard[1];
                goes_on[(now + 1) % 2] = there && heard[1] != GO;
#ifndef MUTATION_ready_first
                ready = now + 1
#else
                skip
#endif
            :: claimed != now
            fi
        :: else
        fi;
        d_step { last = now; heard[0] = 0; heard[1] = 0; there = 0; tired = 0; now = 0 }
    :: ended == last && over -> break
    od;
    skip;
    d_step { threads-- }
}

/* Behind all that the stream has: the threads of the last stay have ended. */
inline launch()
{
    byte i;

    threads == 0;
    d_step {
        number++;
        ticket++;
        ended = ticket - 1;
        claimed = ticket;
        ready = ticket;
        over = 0;
        threads = N + 1
    }
    atomic {
        run computes(ticket, number);
        for (i : 1 .. N) {
            run listens(ticket - 1)
        }
        i = 0
    }
    done == ticket
}

inline write_bell(t, arguments)
{
    if
    :: d_step { bell[0] = t; says[0] = arguments }
       d_step { bell[1] = t; says[1] = arguments }
    :: d_step { bell[1] = t; says[1] = arguments }
       d_step { bell[0] = t; says[0] = arguments }
    fi
}

active proctype calls()
{
    byte ticket;

    do
    :: ticket == CALLS -> break
    :: ticket < CALLS ->
        if
        :: gone == number -> launch()
        :: gone < number ->
            write_bell(ticket + 1, ticket + 1);
            if
            :: done == ticket + 1 -> ticket++
            :: atomic { gone == number && done != ticket + 1 -> skip }
            fi
        fi
    od;
    if
    :: gone < number -> write_bell(ticket + 1, GO)
    :: true /* it goes by itself */
    fi
}
