/* Products of a few rows with one panel (sixteen outputs) of a weight.
 *
 * Every output of a row is summed in one fixed order, over the inputs from first to last (of A, in
 * quarters: factors.h), whatever other rows are computed beside it. That is what makes a reply independent of its neighbours.
 */
#ifndef LCCC_GEMM_H
#define LCCC_GEMM_H

#include "formats.h"
#include "lanes.h"

/* Most rows at a time, whose sums are in registers; and of quantised inputs, whose sums may lie in
 * memory: then a panel is decoded once for all of them. */
#ifdef LCCC_WIDE
enum { TILE = 8, TILE_Q8 = 16 };
#else
enum { TILE = 6, TILE_Q8 = 8 };
#endif

typedef struct { f32x8 low, high; } panel_f32;

/* What is made of weights that are multiplied as floats: sums of whole rows, or of pieces of rows,
 * or something that is added to sums, of which both halves of a panel read the same inputs or each
 * its own, where two projections share the panel. */
enum { WHOLE, PIECES, ADDED, ADDED_HALVES };

/* Weights [inputs][16] of several streams, which begin `stretch` bytes apart, and rows of inputs, of
 * which each stream of PIECES reads those `shift` further on than the one before. The sums of a
 * stream lie `apart` from the last one's. Few rows alone would wait for one sum after the other.
 * Products and sums are fp32. */
typedef struct {
    const char *weights;
    size_t stretch;
    int inputs, shift;
    const float *const *low, *const *high; /* of both halves of a panel, or of each */
    size_t apart;
    const int32_t *rows; /* of what is added: where the sums of each row are */
} floats_t;

enum { MOST_STREAMS = 4 };

/* How many streams there are registers for with so many rows. */
INLINE int streams_of(int rows) {
#ifdef LCCC_WIDE
    return rows <= 2 ? 4 : rows <= 4 ? 2 : 1;
#else
    return rows <= 1 ? 4 : rows <= 2 ? 2 : 1;
#endif
}

/* How many of `left` rows to take at a time, so that no tile is much smaller than the others. */
INLINE int tile_of(int left) {
    int tiles = (left + TILE - 1) / TILE;
    return tiles ? (left + tiles - 1) / tiles : 0;
}

/* For each number of rows a function of its own, so that the sums stay in registers. */
#define FOR_SIX_ROWS(rows, call) \
    switch (rows) {              \
        case 1: call(1); break;  \
        case 2: call(2); break;  \
        case 3: call(3); break;  \
        case 4: call(4); break;  \
        case 5: call(5); break;  \
        default: call(6); break; \
    }

#define FOR_EIGHT_ROWS(rows, call) \
    switch (rows) {                \
        case 7: call(7); break;    \
        case 8: call(8); break;    \
        default: FOR_SIX_ROWS(rows, call) \
    }

#ifdef LCCC_WIDE
#define FOR_ROWS FOR_EIGHT_ROWS
#else
#define FOR_ROWS FOR_SIX_ROWS
#endif

/* NF4's sixteen values become whole numbers from 0 to 64: rounded in units of 1/32.38, plus 32. So
 * four products with signed bytes stay exact in 16 bits. This unit adds least to NF4's own error:
 * 0.6 % on normally distributed weights. */
#define NF4_UNIT 32.38f
#define NF4_OFFSET 32

INLINE u8x32 nf4_table(void) {
    u8x32 table;
    for (int code = 0; code < 32; code++)
        table[code] = (uint8_t)(lrintf(NF4_VALUES[code % 16] * NF4_UNIT) + NF4_OFFSET);
    return table;
}

/* Whole numbers from -63 to 63 are stored 63 too large: two products fit 16 bits. */
#define INT7_MOST 63

/* Rows of quantised inputs, by blocks of 64: numbers, scales, and what the sums of a block start
 * with. Weights are stored too large by a number; times the sum of the inputs, that is taken off
 * there. */
typedef struct {
    const int8_t *inputs; /* [blocks][rows][64]: one address and constants lead to every row */
    const float *scales[TILE_Q8];
    const int32_t *starts[TILE_Q8];
} rows_q8;

/* Asks for memory that will be read soon. */
INLINE void fetch(const void *from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)from + at, 0, 2);
}

#endif
