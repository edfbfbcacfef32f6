/* One panel of a linear layer for all rows, in every format. */
#ifndef LCCC_PRODUCTS_H
#define LCCC_PRODUCTS_H

#include "quantise.h"

#define BLOCKS_AT_ONCE 16 /* 64 inputs each: a stretch of a panel that stays in the cache */

static void set_nf4(buffers_t *b) {
    u8x32 table = nf4_table();
    memcpy(b->nf4, &table, sizeof table);
}

static const char *panel_of(const linear_t *linear, int panel) {
    return (const char *)linear->codes + panel * panel_bytes(linear->format, linear->inputs);
}

/* Where both halves read the same rows, the compiler is told so: it then loads every input once. */
static void panel_floats(const void *panel, int is_bf16, int inputs, const float *const *low,
                         const float *const *high, int rows, panel_f32 *sums) {
#define FP32_ROWS(count) tile_floats(panel, 0, inputs, low, low, count, sums)
#define BF16_ROWS(count) tile_floats(panel, 1, inputs, low, low, count, sums)
#define FP32_HALVES(count) tile_floats(panel, 0, inputs, low, high, count, sums)
#define BF16_HALVES(count) tile_floats(panel, 1, inputs, low, high, count, sums)
    if (low != high && is_bf16) FOR_ROWS(rows, BF16_HALVES)
    else if (low != high) FOR_ROWS(rows, FP32_HALVES)
    else if (is_bf16) FOR_ROWS(rows, BF16_ROWS)
    else FOR_ROWS(rows, FP32_ROWS)
}

static void panel_int8(const linear_t *linear, int panel, const buffers_t *b, int first, int rows,
                       panel_f32 *sums) {
    const int8_t *weights = (const int8_t *)panel_of(linear, panel);
    const int16_t *x[TILE];
    panel_i32 exact[TILE];
    for (int row = 0; row < rows; row++) x[row] = b->q16 + (size_t)(first + row) * b->stride;
#define INT8_ROWS(count) tile_int8(weights, padded(linear->inputs, 2), x, count, exact)
    FOR_ROWS(rows, INT8_ROWS)
    f32x8 low = load_f32(linear->scales + panel * PANEL);
    f32x8 high = load_f32(linear->scales + panel * PANEL + LANES);
    for (int row = 0; row < rows; row++) {
        f32x8 scale = splat_f32(b->scale16[first + row]);
        sums[row].low = to_f32(exact[row].low) * low * scale;
        sums[row].high = to_f32(exact[row].high) * high * scale;
    }
}

/* Blocks from `begin` to `end` of a panel for one tile of rows. */
static void tile_blocks(const linear_t *linear, const uint8_t *codes, const buffers_t *b,
                        tile_t tile, int begin, int end, size_t ahead, panel_f32 *sums) {
    u8x32 table;
    memcpy(&table, b->nf4, sizeof table);
    rows_q8 x = {.inputs = b->q8 + (size_t)tile.first * b->stride};
    for (int row = 0; row < tile.count; row++) {
        x.scales[row] = b->scale8 + (size_t)(tile.first + row) * b->blocks;
        x.starts[row] = b->start8 + (size_t)(tile.first + row) * b->blocks;
    }
#define NF4_ROWS(n) tile_nf4(codes, table, begin, end, &x, n, ahead, sums)
#define INT7_ROWS(n) tile_int7(codes, begin, end, &x, n, ahead, sums)
    if (linear->format == FORMAT_NF4) FOR_MANY_ROWS(tile.count, NF4_ROWS)
    else FOR_MANY_ROWS(tile.count, INT7_ROWS)
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

/* With several tiles of rows the processor reads a panel faster than memory gives it, and then has
 * it in its cache: so the next panel is asked for while this one is computed. */
static void fetch_panel(const linear_t *linear, int panel, int rows) {
    if (rows > TILE && panel < linear->panels)
        fetch(panel_of(linear, panel), panel_bytes(linear->format, linear->inputs));
}

/* A panel in the formats without blocks. */
static void panel_tiles(const buffers_t *b, const linear_t *linear, int panel, const float *x,
                        int rows, panel_f32 *sums) {
    fetch_panel(linear, panel + 1, rows);
    for (int first = 0, count; first < rows; first += count) {
        count = tile_of(rows - first);
        if (linear->format == FORMAT_INT8) {
            panel_int8(linear, panel, b, first, count, sums + first);
        } else {
            const float *from[TILE];
            for (int row = 0; row < count; row++)
                from[row] = x + (size_t)(first + row) * linear->inputs;
            panel_floats(panel_of(linear, panel), linear->format == FORMAT_BF16, linear->inputs,
                         from, from, count, sums + first);
        }
    }
}

/* One panel of `linear` for all `rows` of x, [rows][inputs], which are prepared. */
static void panel_sums(const buffers_t *b, const linear_t *linear, int panel, const float *x,
                       int rows, panel_f32 *sums) {
    if (has_blocks(linear->format)) panel_blocks(linear, panel, b, rows, sums);
    else panel_tiles(b, linear, panel, x, rows, sums);
    if (linear->bias) {
        f32x8 low = load_f32(linear->bias + panel * PANEL);
        f32x8 high = load_f32(linear->bias + panel * PANEL + LANES);
        for (int row = 0; row < rows; row++) sums[row].low += low, sums[row].high += high;
    }
}

#endif
