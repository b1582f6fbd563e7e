/*
 * The kernel that stays: N communicators of one process, each with a thread of its own that makes CALLS calls in turn, on one GPU.
 *
 * What is shown is that each call is done exactly once, with its own arguments, by a kernel that knows the present piece; that
 * there is one kernel that stays at most; and that nobody hangs. Peers play no part: what an exchange is, kernels.pml shows.
 */
#include "common.pml"

#ifndef CALLS
#define CALLS 3
#endif

#define WORDS 2 /* of a bell: as many as it takes to see one before the other */
#define GO 100  /* the arguments that send a kernel away */

byte bell[N * WORDS];  /* tickets */
byte says[N * WORDS];  /* and what comes with them: the call's arguments, which are its ticket once more, or GO */
byte done[N];          /* tickets, written by kernels */
byte gone;             /* number of a stay */
byte staying;          /* the number that was given last */
byte did[N];           /* calls that kernels have done */
byte piece[N];         /* which one the communicator has */
byte resident;         /* kernels that stay */

#define B(c, w) ((c) * WORDS + (w))
#ifdef MUTATION_shared_bell
#define BELL(w) B(0, w)
#else
#define BELL(w) B(c, w)
#endif

/* A kernel does the call: once, and as it is. */
inline does(t, arguments, with_piece)
{
    assert(did[c] == t - 1);
    assert(arguments == t);
    assert(with_piece == piece[c]);
    did[c] = t
}

proctype stays(byte c; byte number; byte ticket; byte with_piece)
{
    bit seen[WORDS];
    byte arguments[WORDS];
    byte w;

    d_step { does(ticket, ticket, with_piece); done[c] = ticket }
    do
    :: true ->
        /* One thread for each word, that looks when it likes; a word that does not come in time is one that is not seen. */
        for (w : 0 .. WORDS - 1) {
            d_step {
                seen[w] = (bell[BELL(w)] == ticket + 1);
                arguments[w] = says[BELL(w)]
            }
        }
        if
#ifdef MUTATION_one_word
        :: seen[0] ->
#else
        :: seen[0] && seen[1] ->
#endif
            if
            :: arguments[WORDS - 1] == GO -> break
            :: else
            fi;
            ticket++;
            d_step { assert(arguments[0] == arguments[1]); does(ticket, arguments[0], with_piece) }
#ifdef MUTATION_gone_before_done
            if
            :: d_step { resident--; gone = number }
               done[c] = ticket;
               goto end
            :: done[c] = ticket
            fi
#else
            done[c] = ticket
#endif
        :: !seen[0] || !seen[1] /* waits on */
        :: !seen[0] || !seen[1] -> break /* has waited too long */
        fi;
        d_step { seen[0] = 0; seen[1] = 0; arguments[0] = 0; arguments[1] = 0; w = 0 }
    od;
#ifdef MUTATION_looks_once_more
    skip;
    d_step { resident--; gone = number }
    if
    :: bell[BELL(0)] == ticket + 1 && bell[BELL(1)] == ticket + 1 && says[BELL(0)] != GO && says[BELL(1)] != GO ->
        d_step { does(ticket + 1, ticket + 1, with_piece); done[c] = ticket + 1 }
    :: else
    fi;
    goto end;
#endif
left:
    skip;
    d_step {
        resident--;
        gone = number
    }
end:
    skip
}

/* Words reach the kernel in any order. */
inline write_bell(t, arguments)
{
    if
    :: d_step { bell[BELL(0)] = t; says[BELL(0)] = arguments }
       d_step { bell[BELL(1)] = t; says[BELL(1)] = arguments }
    :: d_step { bell[BELL(1)] = t; says[BELL(1)] = arguments }
       d_step { bell[BELL(0)] = t; says[BELL(0)] = arguments }
    fi
}

#ifdef MUTATION_gone_equal
#define HAS_GONE(n) (gone == (n))
#else
#define HAS_GONE(n) (gone >= (n))
#endif

inline send_away()
{
    if
    :: here -> write_bell(ticket + 1, GO); here = false
    :: else
    fi
}

proctype calls(byte c)
{
    byte ticket, number, before;
    bit here; /* a kernel stays, as far as the thread knows */

    do
    :: ticket == CALLS -> break
    :: ticket < CALLS ->
        if
        :: true /* a small call, that a kernel which stays can take */
        :: true ->
#ifndef MUTATION_piece_under_stay
            send_away();
#endif
            piece[c] = 1 - piece[c] /* the piece is exchanged */
        :: true -> /* a call of another kind */
            send_away();
            goto launches
        fi;
        if
        :: here && HAS_GONE(number) -> here = false
        :: else
        fi;
        if
        :: here ->
            write_bell(ticket + 1, ticket + 1);
            if
            :: done[c] == ticket + 1 -> ticket++; goto over
            :: atomic { HAS_GONE(number) && done[c] != ticket + 1 -> here = false }
#ifdef MUTATION_impatient
            :: done[c] != ticket + 1 -> here = false /* and launches */
#endif
            fi
        :: else
        fi;
        if
        :: true ->
           before = staying;
#ifdef MUTATION_no_number
           d_step { staying++; number = staying; ticket++; here = true; resident++ }
#else
           if
           :: !HAS_GONE(before) -> before = 0; goto launches
           :: else
           fi;
           if
           :: atomic { staying == before -> staying = before + 1; number = before + 1; before = 0; ticket++; here = true; resident++ }
           :: staying != before -> before = 0; goto launches
           fi;
#endif
           assert(resident <= 1);
           run stays(c, number, ticket, piece[c]);
           done[c] == ticket;
           goto over
        :: true
        fi;
launches:
        skip;
        d_step { ticket++; does(ticket, ticket, piece[c]); done[c] = ticket }
over:
        skip
    od;
    send_away()
}

init {
    byte i;

    atomic {
        for (i : 0 .. N - 1) {
            run calls(i)
        }
    }
}
