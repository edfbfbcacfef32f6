/* Products of a few rows with one panel (sixteen outputs) of a weight.
 *
 * Every output of a row is summed in one fixed order, over the inputs from first to last, whatever
 * other rows are computed beside it. That is what makes a reply independent of its neighbours.
 */
#ifndef LCCC_GEMM_H
#define LCCC_GEMM_H

#include "formats.h"
#include "lanes.h"

#define TILE 6    /* most rows at a time: 12 of AVX2's 16 registers hold their sums */
#define TILE_Q8 8 /* of quantised blocks: their sums may lie in memory, and a panel is decoded once */

typedef struct { f32x8 low, high; } panel_f32;
typedef struct { i32x8 low, high; } panel_i32;

/* How many of `left` rows to take at a time, so that no tile is much smaller than the others. */
INLINE int tile_of(int left) {
    int tiles = (left + TILE - 1) / TILE;
    return tiles ? (left + tiles - 1) / tiles : 0;
}

/* For each number of rows a function of its own, so that the sums stay in registers. */
#define FOR_ROWS(rows, call) \
    switch (rows) {          \
        case 1: call(1); break; \
        case 2: call(2); break; \
        case 3: call(3); break; \
        case 4: call(4); break; \
        case 5: call(5); break; \
        default: call(6); break; \
    }

#define FOR_MANY_ROWS(rows, call) \
    switch (rows) {               \
        case 7: call(7); break;   \
        case 8: call(8); break;   \
        default: FOR_ROWS(rows, call) \
    }

/* panel: [inputs][16] fp32 or bf16; products and sums are fp32. The outputs of the lower half read
 * `low`, those of the upper `high`: the same rows but where two projections share a panel. */
INLINE void tile_floats(const void *panel, int is_bf16, int inputs, const float *const *low,
                        const float *const *high, int rows, panel_f32 *sums) {
    panel_f32 sum[TILE];
    for (int row = 0; row < rows; row++) sum[row].low = sum[row].high = splat_f32(0.0f);
    for (int k = 0; k < inputs; k++) {
        f32x8 first = load_stored(panel, (size_t)k * PANEL, is_bf16);
        f32x8 second = load_stored(panel, (size_t)k * PANEL + LANES, is_bf16);
        for (int row = 0; row < rows; row++) {
            sum[row].low = fma_f32(splat_f32(low[row][k]), first, sum[row].low);
            sum[row].high = fma_f32(splat_f32(high[row][k]), second, sum[row].high);
        }
    }
    for (int row = 0; row < rows; row++) sums[row] = sum[row];
}

/* panel: [inputs / 2][16][2] int8. Sums are exact. */
INLINE void tile_int8(const int8_t *panel, int inputs, const int16_t *const *x, int rows,
                      panel_i32 *sums) {
    panel_i32 sum[TILE];
    for (int row = 0; row < rows; row++) sum[row].low = sum[row].high = (i32x8){0};
    for (int k = 0; k < inputs; k += 2, panel += 2 * PANEL) {
        i16x16 low = widen(panel), high = widen(panel + PANEL);
        for (int row = 0; row < rows; row++) {
            i16x16 input = splat_pair(x[row] + k);
            sum[row].low = add_pairs(sum[row].low, input, low);
            sum[row].high = add_pairs(sum[row].high, input, high);
        }
    }
    for (int row = 0; row < rows; row++) sums[row] = sum[row];
}

/* NF4's sixteen values become whole numbers from 0 to 64: rounded in units of 1/32.38, plus 32. So
 * four products with signed bytes stay exact in 16 bits. This unit adds least to NF4's own error:
 * 0.6 % on normally distributed weights. */
#define NF4_UNIT 32.38f
#define NF4_OFFSET 32

typedef struct { u8x32 low, high; } panel_u8;

INLINE u8x32 nf4_table(void) {
    u8x32 table;
    for (int code = 0; code < 32; code++)
        table[code] = (uint8_t)(lrintf(NF4_VALUES[code % 16] * NF4_UNIT) + NF4_OFFSET);
    return table;
}

/* codes: [16 outputs][4 inputs], outputs 0 to 7 in the lower halves of 32 bytes, 8 to 15 above. */
INLINE panel_u8 decode_nf4(const uint8_t *codes, u8x32 table) {
    u8x32 bytes;
    memcpy(&bytes, codes, sizeof bytes);
    return (panel_u8){look_up(table, bytes & 15), look_up(table, bytes >> 4)};
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

INLINE void start_block(const rows_q8 *x, int block, int rows, panel_i32 *sum) {
    for (int row = 0; row < rows; row++) {
        int32_t start = x->starts[row][block];
        sum[row].low = sum[row].high =
            (i32x8){start, start, start, start, start, start, start, start};
    }
}

/* scales: of the panel's sixteen outputs in this block. */
INLINE void end_block(const rows_q8 *x, int block, const float *scales, int rows,
                      const panel_i32 *sum, panel_f32 *sums) {
    f32x8 low = load_f32(scales), high = load_f32(scales + LANES);
    for (int row = 0; row < rows; row++) {
        f32x8 scale = splat_f32(x->scales[row][block]);
        sums[row].low = fma_f32(to_f32(sum[row].low) * scale, low, sums[row].low);
        sums[row].high = fma_f32(to_f32(sum[row].high) * scale, high, sums[row].high);
    }
}

/* Asks for memory that will be read soon. */
INLINE void fetch(const void *from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)from + at, 0, 2);
}

/* panel: [blocks] of scales and of numbers, [64 / 4][2][32] bytes. As tile_nf4. */
INLINE void tile_int7(const uint8_t *panel, int begin, int end, const rows_q8 *x, int rows,
                      size_t ahead, panel_f32 *sums) {
    for (int block = begin; block < end; block++) {
        const uint8_t *numbers = panel + (size_t)block * INT7_BYTES;
        const float *scales = (const float *)numbers;
        if (ahead) fetch(numbers + ahead, INT7_BYTES);
        numbers += PANEL * sizeof *scales;
        panel_i32 sum[TILE_Q8];
        start_block(x, block, rows, sum);
        const int8_t *inputs = x->inputs + (size_t)block * rows * NF4_BLOCK;
        for (int k = 0; k < NF4_BLOCK; k += 4, numbers += 4 * PANEL) {
            u8x32 low, high;
            memcpy(&low, numbers, sizeof low);
            memcpy(&high, numbers + sizeof low, sizeof high);
            for (int row = 0; row < rows; row++) {
                i8x32 input = splat_four(inputs + row * NF4_BLOCK + k);
                sum[row].low = add_wide_bytes(sum[row].low, low, input);
                sum[row].high = add_wide_bytes(sum[row].high, high, input);
            }
        }
        end_block(x, block, scales, rows, sum, sums);
    }
}

/* Adds the blocks from `begin` to `end` to the sums: exact within a block, blocks in order.
 * panel: [blocks] of scales and of codes, [64 / 4][32] bytes. What lies `ahead` bytes after a block
 * is asked for while it is computed. */
INLINE void tile_nf4(const uint8_t *panel, u8x32 table, int begin, int end, const rows_q8 *x,
                     int rows, size_t ahead, panel_f32 *sums) {
    for (int block = begin; block < end; block++) {
        const uint8_t *codes = panel + (size_t)block * NF4_BYTES;
        const float *scales = (const float *)codes;
        if (ahead) fetch(codes + ahead, NF4_BYTES);
        codes += PANEL * sizeof *scales;
        panel_i32 sum[TILE_Q8];
        start_block(x, block, rows, sum);
        const int8_t *inputs = x->inputs + (size_t)block * rows * NF4_BLOCK;
        for (int k = 0; k < NF4_BLOCK; k += 8, codes += 4 * PANEL) {
            panel_u8 now = decode_nf4(codes, table), then = decode_nf4(codes + 32, table);
            for (int row = 0; row < rows; row++) {
                i8x32 input = splat_four(inputs + row * NF4_BLOCK + k);
                i8x32 next = splat_four(inputs + row * NF4_BLOCK + k + 4);
                sum[row].low = add_bytes(sum[row].low, now.low, input, then.low, next);
                sum[row].high = add_bytes(sum[row].high, now.high, input, then.high, next);
            }
        }
        end_block(x, block, scales, rows, sum, sums);
    }
}

#endif
