/*
 * The host's side: lines and payloads in the control segment, records, who does a call, and breaking. What kernels and the
 * saved module do is taken together as "all have contributed".
 *
 * All ranks make the same calls, any number of them; each says for itself whether its buffers are device memory. Numbers are
 * made relative whenever all ranks have gone on by two.
 *
 *   KINDS   a set of SMALL, LARGE, FORWARDED, RENEWS, by bits
 *   FAULT   one rank fails, at any moment of a call that kernels do
 */
#include "common.pml"

#ifndef KINDS
#define KINDS 15
#endif

#define SMALL 0 /* fits the control segment */
#define LARGE 1
#define FORWARDED 2 /* a type or operation that coll/car leaves alone: no line */
#define RENEWS 3 /* small, and where kernels do it all ranks exchange records before and after clearing */

#ifdef MUTATION_one_line_slot
#define LINE(r, c) (r)
#else
#define LINE(r, c) ((r) * 2 + (c) % 2)
#endif
#ifdef MUTATION_one_payload_slot
#define PAYLOAD(r, c) (r)
#else
#define PAYLOAD(r, c) ((r) * 2 + (c) % 2)
#endif
#ifdef MUTATION_one_record_slot
#define RECORD(r, n) (r)
#else
#define RECORD(r, n) ((r) * 2 + (n) % 2)
#endif

/* The control segment: what lies in a slot is the number of the call, or exchange, that it belongs to. */
byte line_call[2 * N];
bit line_device[2 * N];
byte payload[2 * N];
byte record_number[2 * N];
byte broken;

/* A rank's counters: all calls, those with a line, exchanges of records. */
byte calls[N] = 1;
byte call[N] = 1;
byte exchanges[N] = 1;

/* What a rank has given to the kernels' exchange of a call, or to the saved module's. */
byte contributed[N];
byte saved[N];

bit is_active[N];
byte kind[2];
byte joined[2] = ALL;

hidden byte x;

#define IN_KERNELS(q) (contributed[q] >= call[r])
#define IN_SAVED(q) (saved[q] >= calls[r])
#define BEYOND(counter, number) (counter[0] > (number) && counter[1] > (number) && counter[N - 1] > (number))
#define LESS(number) number = (number > 2 -> number - 2 : 0)

/* A word that is older than what any rank may want cannot be told from one that was never written. */
#define FORGET(word, counter) word = (BEYOND(counter, word) -> 0 : word)

inline shift()
{
    for (x : 0 .. N - 1) {
        FORGET(saved[x], calls);
        FORGET(contributed[x], call)
    }
    for (x : 0 .. 2 * N - 1) {
        FORGET(line_call[x], call);
        FORGET(payload[x], call);
        FORGET(record_number[x], exchanges);
        line_device[x] = line_device[x] && line_call[x] != 0
    }
    if
    :: BEYOND(calls, 2) ->
        for (x : 0 .. N - 1) {
            LESS(calls[x]);
            LESS(saved[x])
        }
    :: else
    fi;
    if
    :: BEYOND(call, 2) ->
        for (x : 0 .. N - 1) {
            LESS(call[x]);
            LESS(contributed[x])
        }
        for (x : 0 .. 2 * N - 1) {
            LESS(line_call[x]);
            LESS(payload[x])
        }
    :: else
    fi;
    if
    :: BEYOND(exchanges, 2) ->
        for (x : 0 .. N - 1) {
            LESS(exchanges[x])
        }
        for (x : 0 .. 2 * N - 1) {
            LESS(record_number[x])
        }
    :: else
    fi;
    x = 0
}

/* Where a wait looks whether the communicator has broken, and then fails. */
#ifdef FAULT
#define LOOK(name) :: broken && name -> goto failed
#else
#define LOOK(name)
#endif
#ifdef MUTATION_no_look_at_entry
#define AT_ENTRY false
#else
#define AT_ENTRY true
#endif
#ifdef MUTATION_no_look_in_lines
#define IN_LINES false
#else
#define IN_LINES true
#endif
#ifdef MUTATION_no_look_after_kernel
#define AFTER_KERNEL false
#else
#define AFTER_KERNEL true
#endif
#ifdef MUTATION_no_look_in_records
#define IN_RECORDS false
#else
#define IN_RECORDS true
#endif

/* car_control_post, and the payload before it. One step: whoever would see it half done sees it whole no later. */
inline post()
{
#ifdef MUTATION_line_before_payload
    line_device[LINE(r, call[r])] = device;
    line_call[LINE(r, call[r])] = call[r];
#endif
    d_step {
        if
        :: kind[c] != LARGE && !device -> payload[PAYLOAD(r, call[r])] = call[r]
        :: else
        fi;
        line_device[LINE(r, call[r])] = device;
        line_call[LINE(r, call[r])] = call[r]
    }
}

#define POSTED(q) (line_call[LINE(q, call[r])] == call[r])
#define SAYS_DEVICE(q) (line_device[LINE(q, call[r])])

/*
 * read_lines reads one line after the other, on an active communicator until one says device memory. Here all that it reads
 * have to be there together, which asks for more.
 */
#define STOPS_AT(q) (is_active[r] && SAYS_DEVICE(q))
#if N == 2
#define LINES_ARE_READ (POSTED(0) && (STOPS_AT(0) || POSTED(1)))
#define SEEN (SAYS_DEVICE(0) || (POSTED(1) && SAYS_DEVICE(1)))
#else
#define LINES_ARE_READ (POSTED(0) && (STOPS_AT(0) || (POSTED(1) && (STOPS_AT(1) || POSTED(2)))))
#define SEEN (SAYS_DEVICE(0) || (POSTED(1) && SAYS_DEVICE(1)) || (POSTED(2) && SAYS_DEVICE(2)))
#endif

#define RECORDED(q) (record_number[RECORD(q, exchanges[r])] == exchanges[r])

/* car_watch_exchange */
inline exchange(may_break)
{
    record_number[RECORD(r, exchanges[r])] = exchanges[r];
    if
    :: d_step {
        EVERY(RECORDED) ->
        exchanges[r]++
       }
#ifdef FAULT
    :: may_break && IN_RECORDS && broken && !EVERY(RECORDED) -> goto failed
#endif
    fi
}

/* car_control_break */
#define FAILS :: d_step { !broken -> broken = 1 + r } goto failed

proctype rank(byte r)
{
    bit c, device, seen;
#ifdef FAULT
    bit left_whole, left_broken;
#endif

    do
    ::
#ifdef FAULT
       if
       :: is_active[r] && broken && AT_ENTRY -> goto failed
       :: !(is_active[r] && broken && AT_ENTRY)
       fi;
#endif
       atomic {
           if
           :: joined[c] == ALL ->
               joined[c] = 0;
               if
               :: KINDS & (1 << SMALL) -> kind[c] = SMALL
               :: KINDS & (1 << LARGE) -> kind[c] = LARGE
               :: KINDS & (1 << FORWARDED) -> kind[c] = FORWARDED
               :: KINDS & (1 << RENEWS) -> kind[c] = RENEWS
               fi
           :: else
           fi;
           assert(!(joined[c] & (1 << r))); /* nobody is two calls ahead of anybody */
           joined[c] = joined[c] | (1 << r)
       }
       if
       :: kind[c] == FORWARDED -> goto to_saved
       :: else
       fi;
       if
       :: device = 0
       :: device = 1
       fi;
       post();

       /* where_to */
       if
       :: is_active[r] && device -> goto to_kernels
       :: else
       fi;
       /* read_lines */
       if
       :: d_step { LINES_ARE_READ -> seen = SEEN }
#ifdef FAULT
#ifdef MUTATION_broken_goes_to_saved
       :: broken && !LINES_ARE_READ -> goto to_saved
#else
       :: d_step { broken && IN_LINES && !LINES_ARE_READ -> seen = 1 }
#endif
#endif
       fi;
       if
       :: !seen && kind[c] == LARGE -> goto to_saved
       :: d_step {
           !seen && kind[c] != LARGE ->
           /* fold_in_control */
           for (x : 0 .. N - 1) {
               assert(payload[PAYLOAD(x, call[r])] == call[r]) /* all operands are those of the call */
           }
           x = 0
          }
          goto returns
       :: seen -> seen = 0
       fi;
       if
       :: !is_active[r] ->
           exchange(false);
           is_active[r] = 1
       :: else
       fi;

to_kernels: /* car_comm_allreduce */
#ifdef FAULT
       if
       :: broken -> goto failed
       :: !broken
       FAILS
       fi;
#endif
       if
       :: kind[c] == RENEWS ->
           exchange(true);
#ifdef FAULT
           if
           :: true
           FAILS
           fi;
#endif
           exchange(true)
       :: else
       fi;
       contributed[r] = call[r];
       do
       :: EVERY(IN_KERNELS) -> break
#ifdef FAULT
       /* Blocks leave; once before the break and once behind it are enough to show what comes of it. */
       :: d_step {
           !EVERY(IN_KERNELS) && (broken -> !left_broken : !left_whole) ->
           if
           :: broken -> left_broken = 1
           :: else -> left_whole = 1
           fi
          }
          /* wait_for_peers */
          if
          :: EVERY(POSTED) && !(broken && AFTER_KERNEL)
          :: broken && (AFTER_KERNEL || (IN_LINES && !EVERY(POSTED))) -> goto failed
          fi
       FAILS
#else
       :: !EVERY(IN_KERNELS) -> EVERY(POSTED)
#endif
       od;
       goto returns;

to_saved:
       saved[r] = calls[r];
       if
       :: EVERY(IN_SAVED)
#ifdef FAULT
       /* What docs/protocol.md, "Faults", says of a rank that has just left a call to the saved module. */
       :: broken && kind[c] == FORWARDED -> goto failed
#endif
       fi;

returns:
       atomic {
           if
           :: kind[c] != FORWARDED -> call[r]++
           :: else
           fi;
           calls[r]++;
           device = 0;
           seen = 0;
           c = 1 - c;
#ifdef FAULT
           left_whole = 0;
           left_broken = 0;
#endif
           shift()
       }
    od;

failed:
end:
    false
}

init
{
    atomic {
        for (x : 0 .. N - 1) {
            run rank(x)
        }
    }
}
