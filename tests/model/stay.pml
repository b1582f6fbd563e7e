/*
 * The kernel that stays: N communicators of one process, each with a thread of its own that makes CALLS calls in turn, on one
 * GPU. The kernel has one block, or with BLOCKS=2 a first that hears the bell and another that it hands calls on to.
 *
 * What is shown is that each share of each call is done exactly once, with the call's own arguments, by a kernel that knows the
 * present piece; that there is one kernel that stays at most, which has gone only when all its blocks have ended and told their
 * ends; and that nobody hangs. Peers play no part but that with LEAVE=1 any may be late, and a block then leaves its share: what
 * an exchange is, kernels.pml shows.
 */
#include "common.pml"

#ifndef CALLS
#define CALLS 3
#endif
#ifndef BLOCKS
#define BLOCKS 1
#endif
#ifndef LEAVE
#define LEAVE 0
#endif

#define WORDS 2 /* of a bell, and of what is handed on: as many as it takes to see one before the other */

/* The arguments of a call: its number, and who does it. */
#define KIND 32
#define ALONE 0    /* the first block both shares, and the other hears of nothing */
#define SHARED 32
#define PASSED 64  /* in a mutation: the first block does both, and the other, as one of three or more, is to take no notice */
#define GO 96      /* no call: what sends a kernel away */
#define CALL_OF(a) ((a) % KIND)
#define KIND_OF(a) ((a) - CALL_OF(a))

byte bell[N * WORDS];  /* tickets */
byte says[N * WORDS];  /* and what comes with them: arguments */
byte hand[N * WORDS];  /* the number of what is handed on, in this stay */
byte tells[N * WORDS]; /* and what comes with it: arguments; the ticket */
byte hand_go[N];       /* the number that no call is handed on with: the kernel goes */
byte done[N * 2];      /* tickets, written by kernels; for each block */
bit left[N * 2];       /* and whether it has left its share */
byte finished[N * 2];  /* calls, for who is launched to go on; for each share */
byte ended[N];         /* blocks of a stay, as they count themselves */
byte gone;             /* number of a stay */
byte staying;          /* the number that was given last */
byte piece[N];         /* which one the communicator has */

/* What nobody looks at, but to see whether all is right. */
byte call[N];          /* the present one */
byte asked[N];         /* the ticket that it has now */
byte did[N * 2];       /* calls that kernels have done; for each share */
byte owed[N];          /* done words of calls that a kernel has taken */
byte resident;         /* kernels that stay */
byte alive[N];         /* blocks of them: what is launched comes behind all of these */

#define B(c, w) ((c) * WORDS + (w))
#ifdef MUTATION_shared_bell
#define BELL(w) B(0, w)
#else
#define BELL(w) B(c, w)
#endif
#define SHARE(b) ((c) * 2 + (b))

/* A kernel does a share of the call: once, and as it is. */
inline does(b, which, with_piece)
{
    assert(did[SHARE(b)] == which - 1);
    assert(which == call[c]);
    assert(with_piece == piece[c]);
    did[SHARE(b)] = which
}

/* All that a block has to do of a call: its own share, or both. */
inline does_all(b, a, t)
{
    assert(t == asked[c]);
    does(b, CALL_OF(a), with_piece);
    if
    :: b == 0 && KIND_OF(a) != SHARED -> does(1, CALL_OF(a), with_piece)
    :: else
    fi
}

inline tell_done(b, t, l)
{
    owed[c]--;
    left[SHARE(b)] = l;
    done[SHARE(b)] = t
}

/* How far it has come, of its own share or of both. That comes behind its done word, and behind that of a later call, too. */
inline keep(b, a, own, others)
{
    d_step {
        finished[SHARE(b)] = own;
        if
        :: b == 0 && KIND_OF(a) != SHARED -> finished[SHARE(1)] = others
        :: else
        fi
    }
}

/* A block does all, and tells the host; or leaves some, for a late peer, and says that. */
inline do_share(b, a, t)
{
    if
    :: d_step { does_all(b, a, t); tell_done(b, t, 0) }
#if LEAVE
       if
       :: KIND_OF(a) != ALONE -> keep(b, a, CALL_OF(a), CALL_OF(a))
       :: else
       fi
    :: d_step { assert(t == asked[c] && CALL_OF(a) == call[c]); tell_done(b, t, 1) }
       keep(b, a, CALL_OF(a) - 1, CALL_OF(a) - 1);
       goto leaves
    :: b == 0 && KIND_OF(a) == ALONE ->
       d_step { assert(t == asked[c]); does(0, CALL_OF(a), with_piece); tell_done(b, t, 1) }
       keep(b, a, CALL_OF(a), CALL_OF(a) - 1);
       goto leaves
#endif
    fi
}

inline clear_hand()
{
#ifndef MUTATION_hand_not_cleared
    hand[B(c, 0)] = 0;
    hand[B(c, 1)] = 0;
    tells[B(c, 0)] = 0;
    tells[B(c, 1)] = 0;
#endif
#ifndef MUTATION_go_not_cleared
    hand_go[c] = 0
#endif
}

inline say_gone()
{
    assert(owed[c] == 0);
    gone = number
}

/* A block ends; the last one says that the kernel has gone. */
inline end(b)
{
    d_step {
#ifdef MUTATION_gone_by_first
        if
        :: b == 0 -> say_gone()
        :: else
        fi;
#endif
#ifdef MUTATION_first_clears
        if
        :: b == 0 -> clear_hand()
        :: else
        fi;
#endif
        ended[c]++;
        if
        :: ended[c] == BLOCKS ->
#ifndef MUTATION_count_not_cleared
            ended[c] = 0;
#endif
            clear_hand();
            resident--;
#ifndef MUTATION_gone_by_first
            say_gone()
#endif
        :: else
        fi;
        alive[c]--
    }
}

/* Words reach the other block in any order. */
inline hand_on(a)
{
    handed++;
    if
    :: d_step { hand[B(c, 0)] = handed; tells[B(c, 0)] = a }
       d_step { hand[B(c, 1)] = handed; tells[B(c, 1)] = ticket }
    :: d_step { hand[B(c, 1)] = handed; tells[B(c, 1)] = ticket }
       d_step { hand[B(c, 0)] = handed; tells[B(c, 0)] = a }
    fi
}

/* The first block. Its first call is the one that it was launched with. */
proctype stays(byte c; byte number; byte ticket; byte a; byte with_piece)
{
    bit seen[WORDS];
    byte arguments[WORDS];
    byte w;
    byte handed;

    do
    :: true ->
        do_share(0, a, ticket);
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
            :: seen[0] -> break
#else
            :: seen[0] && seen[1] -> break
#endif
            :: !seen[0] || !seen[1] /* waits on */
            :: !seen[0] || !seen[1] -> goto leaves /* has waited too long */
            fi;
            d_step { seen[0] = 0; seen[1] = 0; arguments[0] = 0; arguments[1] = 0; w = 0 }
        od;
        if
        :: arguments[WORDS - 1] == GO -> goto leaves
        :: else
        fi;
        d_step {
            assert(arguments[0] == arguments[1]);
            ticket++;
            a = arguments[0];
            owed[c] = owed[c] + (KIND_OF(a) == SHARED -> 2 : 1);
            seen[0] = 0; seen[1] = 0; arguments[0] = 0; arguments[1] = 0; w = 0
        }
#ifdef MUTATION_gone_before_done
        if
        :: d_step { does_all(0, a, ticket); resident--; gone = number }
           d_step { tell_done(0, ticket, 0); alive[c] = 0 }
           goto over
        :: true
        fi;
#endif
        if
        :: KIND_OF(a) != ALONE -> hand_on(a)
        :: else
        fi
    od;
leaves:
    skip;
    d_step { seen[0] = 0; seen[1] = 0; arguments[0] = 0; arguments[1] = 0; w = 0 }
#ifdef MUTATION_looks_once_more
    d_step { resident--; gone = number; alive[c] = 0 }
    if
    :: bell[BELL(0)] == ticket + 1 && bell[BELL(1)] == ticket + 1 && says[BELL(0)] != GO && says[BELL(1)] != GO ->
        d_step { does_all(0, says[BELL(0)], ticket + 1); done[SHARE(0)] = ticket + 1 }
    :: else
    fi;
    goto over;
#endif
#ifndef MUTATION_goes_without_a_word
    if
#ifdef MUTATION_go_in_place_of_calls
    :: BLOCKS == 2 -> hand_on(GO)
#else
    :: BLOCKS == 2 -> hand_go[c] = handed + 1
#endif
    :: else
    fi;
#endif
    end(0);
over:
    skip
}

#if BLOCKS == 2
/* One thread for each word, that looks until this is of the next hand-over, or there is none. */
inline look(w, number_is_right, what)
{
    if
    :: hand_go[c] == handed -> goto leaves
    :: d_step { number_is_right -> what = tells[B(c, w)] }
    fi
}

/* The other block. */
proctype helps(byte c; byte number; byte ticket; byte a; byte with_piece)
{
    byte handed;

    do
    :: true ->
        if
        :: KIND_OF(a) == SHARED -> do_share(1, a, ticket)
        :: else
        fi;
        handed++;
#if defined(MUTATION_hand_no_number)
        look(0, hand[B(c, 0)] != 0, a);
        look(1, hand[B(c, 1)] != 0, ticket);
#elif defined(MUTATION_hand_one_word)
        look(0, hand[B(c, 0)] == handed, a);
        look(1, true, ticket);
#else
        look(0, hand[B(c, 0)] == handed, a);
        look(1, hand[B(c, 1)] == handed, ticket);
#endif
        if
        :: a == GO -> goto leaves
        :: else
        fi
    od;
leaves:
    skip;
    end(1)
}
#endif

/* Words reach the kernel in any order. */
inline write_bell(t, a)
{
    if
    :: d_step { bell[BELL(0)] = t; says[BELL(0)] = a }
       d_step { bell[BELL(1)] = t; says[BELL(1)] = a }
    :: d_step { bell[BELL(1)] = t; says[BELL(1)] = a }
       d_step { bell[BELL(0)] = t; says[BELL(0)] = a }
    fi
}

#ifdef MUTATION_gone_equal
#define HAS_GONE(n) (gone == (n))
#else
#define HAS_GONE(n) (gone >= (n))
#endif

/* The done words of the call: of each block that shares it. */
#ifdef MUTATION_first_done_only
#define ENDED(t) (done[SHARE(0)] == (t))
#else
#define ENDED(t) (done[SHARE(0)] == (t) && (kind != SHARED || done[SHARE(1)] == (t)))
#endif
#define SOME_LEFT (left[SHARE(0)] || kind == SHARED && left[SHARE(1)])

inline send_away()
{
    if
    :: here -> write_bell(ticket + 1, GO); here = false
    :: else
    fi
}

proctype calls(byte c)
{
    byte ticket, number, before, kind;
    bit here; /* a kernel stays, as far as the thread knows */

    do
    :: call[c] == CALLS -> break
    :: call[c] < CALLS ->
        call[c]++;
        if
        :: true /* a small call, that a kernel which stays can take */
#if BLOCKS == 2
        :: kind = SHARED /* another one */
#endif
#ifdef MUTATION_not_all_share
        :: kind = PASSED
#endif
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
            asked[c] = ticket + 1;
            write_bell(ticket + 1, kind + call[c]);
            if
            :: ENDED(ticket + 1) -> ticket++; goto ends
            :: atomic { HAS_GONE(number) && !ENDED(ticket + 1) -> here = false }
#ifdef MUTATION_impatient
            :: !ENDED(ticket + 1) -> here = false /* and launches */
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
           :: atomic {
                  staying == before ->
                  staying = before + 1; number = before + 1; before = 0; ticket++; here = true; resident++
              }
           :: staying != before -> before = 0; goto launches
           fi;
#endif
           assert(resident <= 1);
           atomic {
               alive[c] == 0 ->
               alive[c] = BLOCKS;
               asked[c] = ticket;
               owed[c] = (kind == SHARED -> 2 : 1);
               run stays(c, number, ticket, kind + call[c], piece[c]);
#if BLOCKS == 2
               run helps(c, number, ticket, kind + call[c], piece[c])
#endif
           }
           ENDED(ticket);
           goto ends
        :: true
        fi;
launches:
        skip;
        d_step {
            alive[c] == 0 ->
            ticket++;
            does(0, call[c], piece[c]);
            does(1, call[c], piece[c]);
            done[SHARE(0)] = ticket;
            done[SHARE(1)] = ticket
        }
        goto over;
ends:
        /*
         * What has been left is launched, behind the kernel that it sends away. Of a share only an earlier call may have been
         * kept: then it has done nothing of this one.
         */
        if
        :: SOME_LEFT ->
            send_away();
            d_step {
#ifndef MUTATION_resume_beside
                alive[c] == 0 ->
#endif
                ticket++;
                for (before : 0 .. 1) {
#ifdef MUTATION_resume_old
                    assert(finished[SHARE(before)] >= call[c] - 1);
#endif
                    if
                    :: finished[SHARE(before)] < call[c] -> does(before, call[c], piece[c])
                    :: else
                    fi;
                    left[SHARE(before)] = 0;
                    done[SHARE(before)] = ticket
                }
                before = 0
            }
        :: else
        fi;
over:
        skip;
        d_step {
            assert(did[SHARE(0)] == call[c] && did[SHARE(1)] == call[c]);
            kind = 0
        }
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
