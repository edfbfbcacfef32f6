/* Rows of activations: their norm, and whole numbers made of them for the products. */
#ifndef LCCC_QUANTISE_H
#define LCCC_QUANTISE_H

#include "step.h"

#define BLOCKS_AT_ONCE 16 /* 64 inputs each: a stretch of a panel that stays in the cache */
#define MOST_INT16 16256 /* what two signed bytes can hold: see the torch path of int8 */

static void normalise(const float *x, const float *weight, int size, float epsilon, float *y) {
    f32x8 squares = splat_f32(0.0f);
    int at = 0;
    for (; at + LANES <= size; at += LANES) {
        f32x8 lanes = load_f32(x + at);
        squares = fma_f32(lanes, lanes, squares);
    }
    float sum = sum_f32(squares);
    for (int rest = at; rest < size; rest++) sum += x[rest] * x[rest];
    float scale = 1.0f / sqrtf(sum / size + epsilon);
    f32x8 scales = splat_f32(scale);
    for (at = 0; at + LANES <= size; at += LANES)
        store_f32(y + at, load_f32(x + at) * scales * load_f32(weight + at));
    for (; at < size; at++) y[at] = x[at] * scale * weight[at];
}

/* The largest quantised input whose products with int8 weights cannot leave 32 bits. */
static int most_input(int inputs) {
    long long most = 2147483647LL / (127LL * inputs);
    return most < MOST_INT16 ? (int)most : MOST_INT16;
}

/* What a row is multiplied with to become 16-bit whole numbers, and their scale. 0 where all of it
 * becomes zeros: a row with a number that is none, or infinite, gets a scale that is none, so that
 * its results are none either. */
static float factor16(const float *x, int size, float *scale) {
    float most = largest(x, size);
    int limit = most_input(size);
    if (!(most >= LEAST && most < INFINITY)) {
        *scale = most < LEAST ? 0.0f : NAN;
        return 0.0f;
    }
    *scale = most / limit;
    return limit / most;
}

/* Rows that are computed together in blocks. */
typedef struct { int first, count; } tile_t;

/* The tile with `row` of `rows`: all tiles have nearly the same number of rows. */
static tile_t tile_with(int rows, int row) {
    int tiles = (rows + TILE_Q8 - 1) / TILE_Q8, size = rows / tiles, larger = rows % tiles;
    int is_larger = row < larger * (size + 1);
    int number = is_larger ? row / (size + 1) : (row - larger) / size;
    return (tile_t){number * size + (is_larger ? number : larger), size + is_larger};
}

/* One block of 64 as signed bytes, their scale and their sum. */
static void quantise_block(const float *x, int8_t *q, float *scale, int32_t *sum) {
    float most = largest(x, NF4_BLOCK);
    *sum = 0;
    if (!(most >= LEAST && most < INFINITY)) {
        *scale = most < LEAST ? 0.0f : NAN;
        memset(q, 0, NF4_BLOCK);
        return;
    }
    *scale = most / 127.0f;
    f32x8 factor = splat_f32(127.0f / most);
    i32x8 total = {0};
    for (int at = 0; at < NF4_BLOCK; at += 4 * LANES) {
        i32x8 whole[4];
        for (int part = 0; part < 4; part++) {
            whole[part] = nearest(load_f32(x + at + part * LANES) * factor);
            total += whole[part];
        }
        i8x32 bytes = narrow(whole[0], whole[1], whole[2], whole[3]);
        memcpy(q + at, &bytes, sizeof bytes);
    }
    for (int lane = 0; lane < LANES; lane++) *sum += total[lane];
}

/* One row by blocks, `stride` bytes apart, for weights that are stored `offset` too large. */
static void quantise8(const float *x, int size, int offset, int8_t *q, size_t stride,
                      float *scales, int32_t *starts) {
    for (int block = 0; block * NF4_BLOCK < size; block++, q += stride) {
        const float *from = x + block * NF4_BLOCK;
        int left = size - block * NF4_BLOCK;
        float last[NF4_BLOCK] = {0};
        if (left < NF4_BLOCK) from = memcpy(last, from, left * sizeof *last);
        quantise_block(from, q, scales + block, starts + block);
        starts[block] *= -offset;
    }
}

/* Makes one row of `rows` ready for the products with blocks of `format`. */
static void prepare_blocks(const buffers_t *b, int format, const float *x, int size, int row,
                           int rows) {
    tile_t tile = tile_with(rows, row);
    int8_t *q = b->q8 + (size_t)tile.first * b->stride + (row - tile.first) * NF4_BLOCK;
    quantise8(x, size, format == FORMAT_NF4 ? NF4_OFFSET : INT7_MOST, q,
              (size_t)tile.count * NF4_BLOCK, b->scale8 + (size_t)row * b->blocks,
              b->start8 + (size_t)row * b->blocks);
}

/* The quantised inputs of a tile; those that it has fewer than TILE_Q8 are its first row again. */
static rows_q8 rows_of(const buffers_t *b, tile_t tile) {
    rows_q8 x = {.inputs = b->q8 + (size_t)tile.first * b->stride};
    for (int row = 0; row < TILE_Q8; row++) {
        size_t from = (size_t)(tile.first + (row < tile.count ? row : 0)) * b->blocks;
        x.scales[row] = b->scale8 + from;
        x.starts[row] = b->start8 + from;
    }
    return x;
}

#endif
