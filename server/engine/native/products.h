/* One panel of a linear layer for all rows, in every format. */
#ifndef LCCC_PRODUCTS_H
#define LCCC_PRODUCTS_H

#include "quantise.h"

#ifdef LCCC_WIDE
#include "wide.h"
#else
#include "narrow.h"
#endif

static void set_nf4(buffers_t *b) {
    u8x32 table = nf4_table();
    memcpy(b->nf4, &table, sizeof table);
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

/* A panel of fp32 or bf16 for all rows of x. */
static void panel_rows(const linear_t *linear, int panel, const float *x, int rows,
                       panel_f32 *sums) {
    fetch_panel(linear, panel + 1, rows);
    for (int first = 0, count; first < rows; first += count) {
        count = tile_of(rows - first);
        const float *from[TILE];
        for (int row = 0; row < count; row++) from[row] = x + (size_t)(first + row) * linear->inputs;
        panel_floats(panel_of(linear, panel), linear->format == FORMAT_BF16, linear->inputs, from,
                     from, count, sums + first);
    }
}

/* Makes one row of `rows` ready for the products of `format`. */
static void prepare_row(const buffers_t *b, int format, const float *x, int size, int row,
                        int rows) {
    if (format == FORMAT_INT8) prepare_int8(b, x, size, row, rows);
    else if (has_blocks(format)) prepare_blocks(b, format, x, size, row, rows);
}

/* One panel of `linear` for all `rows` of x, [rows][inputs], which are prepared. */
static void panel_sums(const buffers_t *b, const linear_t *linear, int panel, const float *x,
                       int rows, panel_f32 *sums) {
    if (has_blocks(linear->format)) panel_blocks(linear, panel, b, rows, sums);
    else if (linear->format == FORMAT_INT8) panel_int8(linear, panel, b, rows, sums);
    else panel_rows(linear, panel, x, rows, sums);
    if (linear->bias) {
        f32x8 low = load_f32(linear->bias + panel * PANEL);
        f32x8 high = load_f32(linear->bias + panel * PANEL + LANES);
        for (int row = 0; row < rows; row++) sums[row].low += low, sums[row].high += high;
    }
}

#endif
