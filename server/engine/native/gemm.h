/* Products of a few rows with one panel (sixteen outputs) of a weight.
 *
 * Every output of a row is summed in one fixed order, over the inputs from first to last, whatever
 * other rows are computed beside it. That is what makes a reply independent of its neighbours.
 */
#ifndef LCCC_GEMM_H
#define LCCC_GEMM_H

#include "formats.h"
#include "lanes.h"

#define TILE 6 /* most rows at a time: 12 of AVX2's 16 registers hold their sums */

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

/* Rows of quantised inputs, by blocks of 64: numbers, their scales and their sums. Weights are
 * stored too large by a number; times the sum, that is taken off where a block starts. */
typedef struct {
    const int8_t *inputs[TILE];
    const float *scales[TILE];
    const int32_t *totals[TILE];
} rows_q8;

INLINE void start_block(const rows_q8 *x, int block, int offset, int rows, panel_i32 *sum) {
    for (int row = 0; row < rows; row++) {
        int32_t start = -offset * x->totals[row][block];
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

/* panel: [blocks] of scales and of numbers, [64 / 4][2][32] bytes. Sums as in tile_nf4. */
INLINE void tile_int7(const uint8_t *panel, int blocks, const rows_q8 *x, int rows,
                      panel_f32 *sums) {
    for (int row = 0; row < rows; row++) sums[row].low = sums[row].high = splat_f32(0.0f);
    for (int block = 0; block < blocks; block++, panel += INT7_BYTES) {
        const uint8_t *numbers = panel + PANEL * 4;
        panel_i32 sum[TILE];
        start_block(x, block, INT7_MOST, rows, sum);
        int begin = block * NF4_BLOCK;
        for (int k = begin; k < begin + NF4_BLOCK; k += 4, numbers += 4 * PANEL) {
            u8x32 low, high;
            memcpy(&low, numbers, sizeof low);
            memcpy(&high, numbers + sizeof low, sizeof high);
            for (int row = 0; row < rows; row++) {
                i8x32 input = splat_four(x->inputs[row] + k);
                sum[row].low = add_wide_bytes(sum[row].low, low, input);
                sum[row].high = add_wide_bytes(sum[row].high, high, input);
            }
        }
        end_block(x, block, (const float *)panel, rows, sum, sums);
    }
}

/* panel: [blocks] of scales and of codes, [64 / 4][32] bytes. Exact within a block; blocks are added
 * in order. Codes are decoded anew for every tile of rows: with four rows or more that costs less
 * than keeping them. */
INLINE void tile_nf4(const uint8_t *panel, u8x32 table, int blocks, const rows_q8 *x, int rows,
                     panel_f32 *sums) {
    for (int row = 0; row < rows; row++) sums[row].low = sums[row].high = splat_f32(0.0f);
    for (int block = 0; block < blocks; block++, panel += NF4_BYTES) {
        const uint8_t *codes = panel + PANEL * 4;
        panel_i32 sum[TILE];
        start_block(x, block, NF4_OFFSET, rows, sum);
        int begin = block * NF4_BLOCK;
        for (int k = begin; k < begin + NF4_BLOCK; k += 8, codes += 4 * PANEL) {
            panel_u8 now = decode_nf4(codes, table), then = decode_nf4(codes + 32, table);
            for (int row = 0; row < rows; row++) {
                i8x32 input = splat_four(x->inputs[row] + k);
                i8x32 next = splat_four(x->inputs[row] + k + 4);
                sum[row].low = add_bytes(sum[row].low, now.low, input, then.low, next);
                sum[row].high = add_bytes(sum[row].high, now.high, input, then.high, next);
            }
        }
        end_block(x, block, (const float *)panel, rows, sum, sums);
    }
}

#endif
