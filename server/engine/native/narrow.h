/* The products of gemm.h eight lanes at a time, on any processor. */
#ifndef LCCC_NARROW_H
#define LCCC_NARROW_H

#include "tiles.h"

typedef struct { i32x8 low, high; } panel_i32;
typedef struct { u8x32 low, high; } panel_u8;

INLINE f32x8 load_weights(const void *from, size_t index, int format) {
    if (format == FORMAT_INT8) return load_bytes((const int8_t *)from + index);
    return load_stored(from, index, format == FORMAT_BF16);
}

/* See floats_t in gemm.h. */
INLINE void tile_floats(floats_t from, int format, int kind, int streams, int rows,
                        panel_f32 *sums) {
    const int shift = kind == PIECES ? from.shift : 0, is_added = kind >= ADDED;
    const float *const *high = kind == ADDED_HALVES ? from.high : from.low;
    panel_f32 sum[MOST_STREAMS][TILE];
    for (int stream = 0; stream < streams; stream++)
        for (int row = 0; row < rows; row++) {
            sum[stream][row].low = sum[stream][row].high = splat_f32(0.0f);
            if (is_added) sum[stream][row] = sums[stream * from.apart + from.rows[row]];
        }
    for (int k = 0; k < from.inputs; k++) {
        for (int stream = 0; stream < streams; stream++) {
            const char *panel = from.weights + stream * from.stretch;
            f32x8 first = load_weights(panel, (size_t)k * PANEL, format);
            f32x8 second = load_weights(panel, (size_t)k * PANEL + LANES, format);
            for (int row = 0; row < rows; row++) {
                panel_f32 *to = &sum[stream][row];
                int at = k + stream * shift;
                to->low = fma_f32(splat_f32(from.low[row][at]), first, to->low);
                to->high = fma_f32(splat_f32(high[row][at]), second, to->high);
            }
        }
    }
    for (int stream = 0; stream < streams; stream++)
        for (int row = 0; row < rows; row++)
            sums[stream * from.apart + (is_added ? from.rows[row] : row)] = sum[stream][row];
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

/* codes: [16 outputs][4 inputs], outputs 0 to 7 in the lower halves of 32 bytes, 8 to 15 above. */
INLINE panel_u8 decode_nf4(const uint8_t *codes, u8x32 table) {
    u8x32 bytes;
    memcpy(&bytes, codes, sizeof bytes);
    return (panel_u8){look_up(table, bytes & 15), look_up(table, bytes >> 4)};
}

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

/* Some rows of the next function. */
static void tile_of_int8(const linear_t *linear, int panel, const buffers_t *b, int first, int rows,
                         panel_f32 *sums) {
    const int8_t *weights = (const int8_t *)panel_of(linear, panel);
    const int16_t *x[TILE];
    panel_i32 exact[TILE];
    for (int row = 0; row < rows; row++) x[row] = b->q16 + (size_t)(first + row) * b->stride;
#define INT8_ROWS(count) tile_int8(weights, padded(linear->inputs, INT8_UNIT), x, count, exact)
    FOR_ROWS(rows, INT8_ROWS)
    f32x8 low = load_f32(linear->scales + panel * PANEL);
    f32x8 high = load_f32(linear->scales + panel * PANEL + LANES);
    for (int row = 0; row < rows; row++) {
        f32x8 scale = splat_f32(b->scale16[first + row]);
        sums[row].low = to_f32(exact[row].low) * low * scale;
        sums[row].high = to_f32(exact[row].high) * high * scale;
    }
}

/* A panel of int8 for all rows. */
static void panel_int8(const linear_t *linear, int panel, const buffers_t *b, int rows,
                       panel_f32 *sums) {
    fetch_panel(linear, panel + 1, rows);
    for (int first = 0, count; first < rows; first += count) {
        count = tile_of(rows - first);
        tile_of_int8(linear, panel, b, first, count, sums + first);
    }
}

/* One row as 16-bit whole numbers and their scale. */
static void quantise16(const float *x, int size, int stride, int16_t *q, float *scale) {
    float factor = factor16(x, size, scale);
    memset(q + size, 0, (stride - size) * sizeof *q);
    if (factor == 0.0f) {
        memset(q, 0, size * sizeof *q);
        return;
    }
    int at = 0;
    for (; at + LANES <= size; at += LANES) {
        i16x8 whole = __builtin_convertvector(nearest(load_f32(x + at) * splat_f32(factor)), i16x8);
        memcpy(q + at, &whole, sizeof whole);
    }
    for (; at < size; at++) q[at] = (int16_t)lrintf(x[at] * factor);
}

/* One row of inputs for the products with int8 weights, of `rows`. */
static void prepare_int8(const buffers_t *b, const float *x, int size, int row,
                         int rows __attribute__((unused))) {
    quantise16(x, size, b->stride, b->q16 + (size_t)row * b->stride, b->scale16 + row);
}

/* Blocks from `begin` to `end` of a panel for one tile of rows. */
static void tile_blocks(const linear_t *linear, const uint8_t *codes, const buffers_t *b,
                        tile_t tile, int begin, int end, size_t ahead, panel_f32 *sums) {
    u8x32 table;
    memcpy(&table, b->nf4, sizeof table);
    rows_q8 x = rows_of(b, tile);
#define NF4_ROWS(n) tile_nf4(codes, table, begin, end, &x, n, ahead, sums)
#define INT7_ROWS(n) tile_int7(codes, begin, end, &x, n, ahead, sums)
    if (linear->format == FORMAT_NF4) FOR_EIGHT_ROWS(tile.count, NF4_ROWS)
    else FOR_EIGHT_ROWS(tile.count, INT7_ROWS)
}

/* A stretch of blocks at a time, which stays in the cache for all tiles of rows. While the first
 * tile is computed, the next stretch is asked for: with several tiles of rows the processor reads
 * weights faster than memory gives them. */
static void panel_blocks(const linear_t *linear, int panel, const buffers_t *b, int rows,
                         panel_f32 *sums) {
    int blocks = padded(linear->inputs, NF4_BLOCK) / NF4_BLOCK;
    size_t bytes = panel_bytes(linear->format, linear->inputs) / blocks;
    const uint8_t *codes = (const uint8_t *)panel_of(linear, panel);
    for (int row = 0; row < rows; row++) sums[row].low = sums[row].high = splat_f32(0.0f);
    for (int begin = 0; begin < blocks; begin += BLOCKS_AT_ONCE) {
        int end = begin + BLOCKS_AT_ONCE < blocks ? begin + BLOCKS_AT_ONCE : blocks;
        for (int first = 0; first < rows;) {
            tile_t tile = tile_with(rows, first);
            size_t ahead = first ? 0 : BLOCKS_AT_ONCE * bytes;
            tile_blocks(linear, codes, b, tile, begin, end, ahead, sums + first);
            first += tile.count;
        }
    }
}

#endif
