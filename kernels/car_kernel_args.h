/*
 * What the host hands to a kernel, and how a piece of device memory is laid out: the one header
 * that host code and kernels share. Plain C and C++; no pointer here is dereferenced by the host.
 *
 * docs/protocol.md says what the words mean and why two slots suffice.
 */
#ifndef CAR_KERNEL_ARGS_H
#define CAR_KERNEL_ARGS_H

#include <stdint.h>

#define CAR_MAX_RANKS 16
#define CAR_MAX_BLOCKS 256
#define CAR_LANES_MAX 128

/*
 * Threads of a block, at most, as CAR_KERNEL has it too; 64 blocks of that size fill a Hopper link.
 */
#define CAR_MAX_THREADS 512

/* Threads of a warp; the largest block is of whole ones. */
#define CAR_WARP 32

/* A block of a kernel that stays does so many of a call's blocks at most. */
#define CAR_SHARE_MOST 4

/*
 * Words of the host's line that blocks tell their end by; a larger grid tells it by one of them,
 * and counts.
 */
#define CAR_DONE_WORDS 32

/*
 * Exchanges use their two slots in turn: epoch & 1. one_shot_pull uses the halves of each in turn,
 * too: epoch & 3.
 */
#define CAR_SLOTS 2
#define CAR_PULL_HALVES 2

/*
 * Data that moves as one access, and the payload of one packet of that size: the other half is the
 * epoch, twice.
 */
#define CAR_PACK_BYTES 16
#define CAR_PACKET_PAYLOAD 8

/*
 * The start of a piece: the flags, zero at first. Only rank s writes flag[..][..][s], with epochs
 * that only grow. A block's words are 64 bytes apart, so blocks do not share a line of the link.
 */
enum {
    CAR_STAGED,  /* block b of rank s has staged, or scattered, its data */
    CAR_REDUCED, /* two_shot: block b of rank s has folded its share and sent the result */
    CAR_FLAG_KINDS
};

typedef struct {
    uint32_t flag[CAR_FLAG_KINDS][CAR_MAX_BLOCKS][CAR_MAX_RANKS];
    /* set-up only: what rank s wrote through its mapping */
    uint32_t probe[CAR_MAX_RANKS];
    /* set-up only: what the peers must read through theirs */
    uint32_t tag;
} car_flags_t;

#define CAR_FLAGS_BYTES (40 * 1024)

/*
 * How far a block has come, in epochs; kept from launch to launch of one call. In the rank's own
 * memory.
 */
typedef struct {
    /* exchanges whose input the block has sent, or told the peers of: all below this */
    uint32_t published;
    /*
     * two_shot, two_shot_push: exchanges whose share the block has folded and sent: all below this
     */
    uint32_t reduced;
    uint32_t finished;  /* exchanges whose output the block has written: all below this */
    /*
     * one_shot_pull: exchanges whose input the block has staged, and may have yet to publish: all
     * below this
     */
    uint32_t staged;
} car_progress_t;

/*
 * A kernel that stays: what its first block hands on to the others. Packets of {word, number of
 * the hand-over, word, number}; which one says what: as those of the bell (below), and two more.
 */
enum {
    CAR_HAND_TICKET = 4, /* of the call; 0 */
    CAR_HAND_CALL_PACKETS,
    /* there is no hand-over with this number: the kernel goes. No call's packet makes way for it */
    CAR_HAND_GO = CAR_HAND_CALL_PACKETS,
    CAR_HAND_PACKETS
};

/* A rank's own words in device memory that no peer touches. */
typedef struct {
    car_progress_t progress[CAR_MAX_BLOCKS];
    /* low half: blocks that have ended; high half: those of them that left unfinished */
    uint32_t blocks_done;
    uint32_t blocks_gone; /* of a kernel that stays; 0 between launches */
    uint32_t look_delay;  /* when such a kernel looks for a call, as the last one found; 0: none */
    uint32_t unused;
    uint32_t hand[CAR_HAND_PACKETS][4]; /* 0 between launches */
} car_own_words_t;

/* What elements are, and how many: all that arithmetic and the walk over them need to know. */
typedef struct {
    uint64_t count;
    uint16_t data_bytes;   /* kernels of car_any: which of 16 bytes carry data (car_types.def) */
    uint8_t type, op;      /* car_any: car_type_t, car_op_t */
    uint8_t element_shift; /* car_any: log2 of an element's bytes */
    uint8_t granule;       /* car_any: bytes that any element's address is a multiple of */
    uint16_t unused;       /* no padding: the host compares arguments byte by byte */
} car_elements_t;

/*
 * One launch. The call has `count` elements; round k of the call is exchange `epoch` + k. A launch
 * does the rounds from `first` to `end` - 1, counted as epochs; the usual one does all.
 */
typedef struct {
    car_elements_t what;
    const void *input; /* element 0 of the call, also where the launch starts later */
    void *output;
    /* elements that a block takes in a round; two_shot, two_shot_push: of each share */
    uint64_t tile;
    char *piece[CAR_MAX_RANKS]; /* every rank's piece, as mapped here */
    car_own_words_t *own;
    /* mapped host memory, CAR_DONE_WORDS words: ticket << 32 | blocks that left unfinished */
    uint64_t *done;
    /* bytes from the start of a piece, the same on all ranks: inbox for packets */
    uint32_t push_offset;
    /*
     * bytes of a slot of one source; two_shot_push: operands in the first half, results in the
     * second
     */
    uint32_t push_slot;
    uint32_t staging_offset; /* staging of one_shot_pull, and inboxes of two_shot */
    uint32_t staging_slot;  /* bytes of a slot */
    uint32_t two_shot_slot; /* bytes of a source, in either inbox of a slot */
    uint32_t epoch, first, end;
    uint32_t rank, size;
    uint32_t ticket;        /* the number of this launch */
    uint32_t spin_ns;       /* a wait longer than this makes the block leave */
    uint8_t resume;         /* the blocks start where car_own_words_t says */
    uint8_t vector_input;   /* input is 16-byte aligned */
    uint8_t vector_output;
    /* output is not this GPU's own memory: completion needs system scope */
    uint8_t output_is_remote;
    uint8_t unused[4]; /* no padding, as in car_elements_t */
} car_kernel_args_t;

/*
 * The bell that a kernel which stays is called by (one_shot_push_stay.cu): packets of {word,
 * ticket, word, ticket} in mapped host memory. Which packet says what:
 */
enum {
    CAR_BELL_INPUT,    /* car_kernel_args_t.input, low word first */
    CAR_BELL_OUTPUT,   /* the same of output */
    CAR_BELL_ELEMENTS, /* what.count, tile */
    /* epoch of its one exchange; CAR_BELL_ flags, and above them the call's blocks */
    CAR_BELL_EPOCH,
    CAR_BELL_PACKETS
};

#define CAR_BELL_VECTOR_INPUT 1
#define CAR_BELL_VECTOR_OUTPUT 2
#define CAR_BELL_GO 4 /* no call: the kernel is to go */
#define CAR_BELL_SHARED 8 /* all blocks of the kernel share the call's, not the first alone */
#define CAR_BELL_BLOCKS_SHIFT 8

/* One launch of a kernel that stays: its first call, and where it hears of the next ones. */
typedef struct {
    car_kernel_args_t call;
    const void *bell;        /* mapped host memory, CAR_BELL_PACKETS packets */
    uint64_t *gone;    /* mapped host memory: the number of the last stay that has gone */
    uint32_t number;   /* of this stay among those of the process on this GPU */
    uint32_t stay_ns;  /* how long it waits for the next call */
    uint32_t total_ns; /* how long it takes calls */
    uint32_t blocks;   /* of the first call */
    uint32_t shared;   /* blocks of this kernel that share them: 1, or all */
} car_stay_args_t;

/*
 * One launch of a kernel that waits for nobody (fold.cu): element i of every dest becomes the fold
 * of element i of all sources, in their order. One source: a copy.
 */
typedef struct {
    car_elements_t what;
    const void *source[CAR_MAX_RANKS]; /* element 0, in rank order */
    void *dest[CAR_MAX_RANKS];
    uint32_t *ended;        /* blocks that have ended; 0 between launches */
    uint64_t *done;         /* mapped host memory: ticket << 32 */
    uint32_t ticket;
    uint16_t vector_source, vector_dest; /* bit i: source, dest i is 16-byte aligned */
    uint8_t sources, dests;
    /* some dest is not this GPU's own memory: completion needs system scope */
    uint8_t output_is_remote;
    uint8_t unused[5]; /* no padding */
} car_fold_args_t;

#endif /* CAR_KERNEL_ARGS_H */
