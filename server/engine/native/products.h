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

/* `streams` of them, for which `rows` must leave room: see streams_of. */
static void multiply_floats(floats_t from, int format, int kind, int streams, int rows,
                            panel_f32 *sums) {
#define IN_FORMAT(kind, streams, count)                                                          \
    do {                                                                                         \
        if (format == FORMAT_INT8) tile_floats(from, FORMAT_INT8, kind, streams, count, sums);   \
        else if (format == FORMAT_BF16) tile_floats(from, FORMAT_BF16, kind, streams, count, sums); \
        else tile_floats(from, FORMAT_FP32, kind, streams, count, sums);                         \
    } while (0)
#define OF_KIND(streams, count)                                   \
    do {                                                          \
        if (kind == ADDED) IN_FORMAT(ADDED, streams, count);      \
        else if (kind == PIECES) IN_FORMAT(PIECES, streams, count); \
        else IN_FORMAT(ADDED_HALVES, streams, count);             \
    } while (0)
#define ONE_STREAM(count) OF_KIND(1, count)
    if (streams == 1) FOR_ROWS(rows, ONE_STREAM)
#ifdef LCCC_WIDE
    else if (streams == 2 && rows == 3) OF_KIND(2, 3);
    else if (streams == 2) OF_KIND(2, 4);
    else if (rows == 2) OF_KIND(4, 2);
#else
    else if (streams == 2) OF_KIND(2, 2);
#endif
    else OF_KIND(4, 1);
}

/* Whole rows with one panel of fp32 or bf16. */
static void multiply_whole(const void *panel, int format, int inputs, const float *const *rows,
                           int count, panel_f32 *sums) {
    floats_t from = {.weights = panel, .inputs = inputs, .low = rows};
#define FP32_ROWS(count) tile_floats(from, FORMAT_FP32, WHOLE, 1, count, sums)
#define BF16_ROWS(count) tile_floats(from, FORMAT_BF16, WHOLE, 1, count, sums)
    if (format == FORMAT_BF16) FOR_ROWS(count, BF16_ROWS)
    else FOR_ROWS(count, FP32_ROWS)
}

/* A panel of fp32 or bf16 for all rows of x. */
static void panel_rows(const linear_t *linear, int panel, const float *x, int rows,
                       panel_f32 *sums) {
    fetch_panel(linear, panel + 1, rows);
    for (int first = 0, count; first < rows; first += count) {
        count = tile_of(rows - first);
        const float *from[TILE];
        for (int row = 0; row < count; row++) from[row] = x + (size_t)(first + row) * linear->inputs;
        multiply_whole(panel_of(linear, panel), linear->format, linear->inputs, from, count,
                       sums + first);
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
