/* Attention of a few query rows over one key head of a paged cache.
 *
 * A block holds sixteen tokens of every key head: keys as [head_dim][16], so that sixteen scores
 * are summed side by side, values as [16][head_dim]. A query's softmax goes over its tokens in
 * steps of 64 from the first, whatever else is computed with it (online softmax, arXiv 1805.02867).
 */
#ifndef LCCC_ATTENTION_H
#define LCCC_ATTENTION_H

#include "lanes.h"

#define BLOCK_TOKENS 16
#define STEP_TOKENS 64
#define QUERY_TILE 4
#define MAX_HEAD_DIM 256

typedef struct {
    const void *keys, *values; /* of one layer, all blocks */
    int kv_heads, head_dim;
} kv_layer;

/* scores[row][16] of each of `blocks` blocks (one or two: with few rows, more sums hide the wait
 * for each other). */
INLINE void score_blocks(const void *keys, const size_t *starts, int blocks, int is_bf16,
                         int head_dim, const float *const *queries, int rows,
                         float (*scores)[STEP_TOKENS], int offset) {
    f32x8 low[2][QUERY_TILE], high[2][QUERY_TILE];
    for (int block = 0; block < blocks; block++)
        for (int row = 0; row < rows; row++) low[block][row] = high[block][row] = splat_f32(0.0f);
    for (int d = 0; d < head_dim; d++) {
        for (int block = 0; block < blocks; block++) {
            size_t at = starts[block] + (size_t)d * BLOCK_TOKENS;
            f32x8 k_low = load_stored(keys, at, is_bf16), k_high = load_stored(keys, at + LANES, is_bf16);
            for (int row = 0; row < rows; row++) {
                f32x8 query = splat_f32(queries[row][d]);
                low[block][row] = fma_f32(query, k_low, low[block][row]);
                high[block][row] = fma_f32(query, k_high, high[block][row]);
            }
        }
    }
    for (int block = 0; block < blocks; block++)
        for (int row = 0; row < rows; row++) {
            float *to = scores[row] + offset + block * BLOCK_TOKENS;
            store_f32(to, low[block][row]);
            store_f32(to + LANES, high[block][row]);
        }
}

/* Turns the scores of one row's step into weights; the row's maximum and sum follow.
 * Returns what the sums of earlier steps have to be multiplied by. */
INLINE float weigh_step(float *scores, int tokens, float *most, float *sum) {
    f32x8 highest = splat_f32(-INFINITY), total = splat_f32(0.0f);
    int used = (tokens + LANES - 1) / LANES * LANES;
    for (int at = tokens; at < used; at++) scores[at] = -INFINITY;
    memset(scores + used, 0, (STEP_TOKENS - used) * sizeof *scores);
    for (int at = 0; at < used; at += LANES) highest = max_f32(highest, load_f32(scores + at));
    float now = most_f32(highest);
    now = now > *most ? now : *most;
    for (int at = 0; at < used; at += LANES) {
        f32x8 weight = exp_f32(load_f32(scores + at) - splat_f32(now));
        store_f32(scores + at, weight);
        total = total + weight;
    }
    float scale = exp_f32(splat_f32(*most - now))[0];
    *sum = *sum * scale + sum_f32(total);
    *most = now;
    return scale;
}

/* outputs[row] = scale * outputs[row] + weights . values over the step's tokens from `begin` to
 * `end`, for `vectors` vectors of the head from dimension `d`. */
INLINE void add_values_at(const kv_layer *kv, const size_t *starts, int begin, int end, int rows,
                          int is_bf16, int d, int vectors, float (*weights)[STEP_TOKENS],
                          const float *scales, float (*outputs)[MAX_HEAD_DIM]) {
    f32x8 sum[QUERY_TILE][4];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++)
            sum[row][v] = load_f32(outputs[row] + d + v * LANES) * splat_f32(scales[row]);
    for (int first = begin, last; first < end; first = last) {
        int offset = first % BLOCK_TOKENS;
        size_t place = starts[first / BLOCK_TOKENS] + (size_t)offset * kv->head_dim + d;
        last = end - first < BLOCK_TOKENS - offset ? end : first + BLOCK_TOKENS - offset;
        for (int at = first; at < last; at++, place += kv->head_dim)
            for (int v = 0; v < vectors; v++) {
                f32x8 value = load_stored(kv->values, place + v * LANES, is_bf16);
                for (int row = 0; row < rows; row++)
                    sum[row][v] = fma_f32(splat_f32(weights[row][at]), value, sum[row][v]);
            }
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) store_f32(outputs[row] + d + v * LANES, sum[row][v]);
}

INLINE void add_values(const kv_layer *kv, const size_t *starts, int begin, int end, int rows,
                       int is_bf16, float (*weights)[STEP_TOKENS], const float *scales,
                       float (*outputs)[MAX_HEAD_DIM]) {
    const int wide = rows <= 2 ? 4 : 2; /* eight sums or fewer at a time */
    int d = 0;
    for (; d + wide * LANES <= kv->head_dim; d += wide * LANES)
        add_values_at(kv, starts, begin, end, rows, is_bf16, d, wide, weights, scales, outputs);
    for (; d < kv->head_dim; d += LANES)
        add_values_at(kv, starts, begin, end, rows, is_bf16, d, 1, weights, scales, outputs);
}

/* Each of `rows` queries (scaled already) over the first `limits[row]` tokens of a sequence whose
 * blocks are `table`. Limits do not fall. outputs: [rows] of head_dim floats. */
INLINE void attend_tile(const kv_layer *kv, int is_bf16, const int32_t *table, int kv_head,
                        const float *const *queries, const int *limits, int rows,
                        float *const *outputs) {
    float scores[QUERY_TILE][STEP_TOKENS] __attribute__((aligned(32)));
    float sums[QUERY_TILE][MAX_HEAD_DIM] __attribute__((aligned(32)));
    float most[QUERY_TILE], sum[QUERY_TILE], scales[QUERY_TILE];
    size_t per_head = (size_t)BLOCK_TOKENS * kv->head_dim;
    int end = limits[rows - 1];
    memset(sums, 0, sizeof sums);
    for (int row = 0; row < rows; row++) most[row] = -INFINITY, sum[row] = 0.0f;
    for (int start = 0; start < end; start += STEP_TOKENS) {
        int tokens = end - start < STEP_TOKENS ? end - start : STEP_TOKENS;
        size_t places[STEP_TOKENS / BLOCK_TOKENS];
        int blocks = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS, block = 0;
        for (int at = 0; at < blocks; at++) {
            size_t number = (size_t)table[start / BLOCK_TOKENS + at];
            places[at] = (number * kv->kv_heads + kv_head) * per_head;
        }
        for (; rows <= 2 && block + 2 <= blocks; block += 2)
            score_blocks(kv->keys, places + block, 2, is_bf16, kv->head_dim, queries, rows, scores,
                         block * BLOCK_TOKENS);
        for (; block < blocks; block++)
            score_blocks(kv->keys, places + block, 1, is_bf16, kv->head_dim, queries, rows, scores,
                         block * BLOCK_TOKENS);
        int seen[QUERY_TILE];
        for (int row = 0; row < rows; row++) {
            int left = limits[row] - start;
            seen[row] = left < 0 ? 0 : left < tokens ? left : tokens;
            scales[row] = weigh_step(scores[row], seen[row], &most[row], &sum[row]);
        }
        add_values(kv, places, 0, seen[0], rows, is_bf16, scores, scales, sums);
        /* Later queries see a little more; the others do not touch it, whatever it holds. */
        const float one = 1.0f;
        for (int row = 1; row < rows; row++)
            if (seen[row] > seen[0])
                add_values(kv, places, seen[0], seen[row], 1, is_bf16, scores + row, &one,
                           sums + row);
    }
    for (int row = 0; row < rows; row++) {
        f32x8 share = splat_f32(1.0f / sum[row]);
        for (int d = 0; d < kv->head_dim; d += LANES)
            store_f32(outputs[row] + d, load_f32(sums[row] + d) * share);
    }
}

#endif
