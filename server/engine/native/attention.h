/* Attention of some query rows over one key head of a paged cache.
 *
 * A block holds sixteen tokens of every key head: keys as [head_dim][16], so that sixteen scores
 * are summed side by side, values as [16][head_dim]. A query's softmax goes over its tokens in
 * steps of 64 from the first, whatever else is computed with it (online softmax, arXiv 1805.02867).
 * What is read from the cache is used for all queries of a task before the next is read.
 */
#ifndef LCCC_ATTENTION_H
#define LCCC_ATTENTION_H

#include "gemm.h"

#define BLOCK_TOKENS 16
#define STEP_TOKENS 64
#define STEP_BLOCKS (STEP_TOKENS / BLOCK_TOKENS)
#ifdef LCCC_WIDE
#define MOST_VECTORS 8 /* of values for one or two queries */
#else
#define MOST_VECTORS 4
#endif
#define QUERIES 48 /* at most in one task */
#define FEW 4      /* for so many, widening bf16 on the way costs less than doing it beforehand */
#define MAX_HEAD_DIM 256
#define SLICE (2 * LANES) /* dimensions of the values that are computed before the next */

typedef struct {
    const void *keys, *values; /* of one layer, all blocks */
    int kv_heads, head_dim, is_bf16;
} kv_layer;

/* The queries of a task and what has come of them so far. */
typedef struct {
    float packed[QUERIES * MAX_HEAD_DIM]; /* by tiles, each [head_dim][rows] */
    float scores[QUERIES][STEP_TOKENS];   /* then weights */
    float sums[QUERIES][MAX_HEAD_DIM];
    float widened[STEP_TOKENS * MAX_HEAD_DIM];
    float most[QUERIES], sum[QUERIES], scales[QUERIES];
    int limits[QUERIES], seen[QUERIES]; /* tokens in all, and of the step */
} __attribute__((aligned(64))) queries_t;

/* A block of keys as floats, while the one at `ahead`, which is needed next, is asked for. */
INLINE void widen_keys(const uint16_t *keys, const uint16_t *ahead, int head_dim, float *to) {
    for (int at = 0; at < BLOCK_TOKENS * head_dim; at += 4 * LANES) {
        __builtin_prefetch(ahead + at, 0, 2);
        for (int part = at; part < at + 4 * LANES; part += LANES)
            store_f32(to + part, load_bf16(keys + part));
    }
}

/* The same of values, by slices: [head_dim / 16][tokens of the step][16]. */
INLINE void widen_values(const uint16_t *values, const uint16_t *ahead, int head_dim, float *to) {
    for (int token = 0; token < BLOCK_TOKENS; token++)
        for (int d = 0; d < head_dim; d += LANES) {
            int at = token * head_dim + d;
            if (d % (4 * LANES) == 0) __builtin_prefetch(ahead + at, 0, 2);
            store_f32(to + d / SLICE * SLICE * STEP_TOKENS + token * SLICE + d % SLICE,
                      load_bf16(values + at));
        }
}

/* scores[row][16] of `blocks` blocks (one or two: with few rows, more sums hide the wait for each
 * other). queries: [head_dim][rows]. */
INLINE void score_blocks(const void *keys, const void *ahead, const size_t *starts, int blocks,
                         int is_bf16, int head_dim, const float *queries, int rows,
                         float (*scores)[STEP_TOKENS]) {
#ifdef LCCC_WIDE
    __m512 sum[2][TILE];
    for (int block = 0; block < blocks; block++)
        for (int row = 0; row < rows; row++) sum[block][row] = _mm512_setzero_ps();
    for (int d = 0; d < head_dim; d++, queries += rows) {
        for (int block = 0; block < blocks; block++) {
            size_t at = starts[block] + (size_t)d * BLOCK_TOKENS;
            if (is_bf16) __builtin_prefetch((const uint16_t *)ahead + at, 0, 2);
            __m512 key = load_wide(keys, at, is_bf16);
            for (int row = 0; row < rows; row++)
                sum[block][row] =
                    _mm512_fmadd_ps(_mm512_set1_ps(queries[row]), key, sum[block][row]);
        }
    }
    for (int block = 0; block < blocks; block++)
        for (int row = 0; row < rows; row++)
            _mm512_storeu_ps(scores[row] + block * BLOCK_TOKENS, sum[block][row]);
#else
    f32x8 low[2][TILE], high[2][TILE];
    for (int block = 0; block < blocks; block++)
        for (int row = 0; row < rows; row++) low[block][row] = high[block][row] = splat_f32(0.0f);
    for (int d = 0; d < head_dim; d++, queries += rows) {
        for (int block = 0; block < blocks; block++) {
            size_t at = starts[block] + (size_t)d * BLOCK_TOKENS;
            if (is_bf16) __builtin_prefetch((const uint16_t *)ahead + at, 0, 2);
            f32x8 k_low = load_stored(keys, at, is_bf16);
            f32x8 k_high = load_stored(keys, at + LANES, is_bf16);
            for (int row = 0; row < rows; row++) {
                f32x8 query = splat_f32(queries[row]);
                low[block][row] = fma_f32(query, k_low, low[block][row]);
                high[block][row] = fma_f32(query, k_high, high[block][row]);
            }
        }
    }
    for (int block = 0; block < blocks; block++)
        for (int row = 0; row < rows; row++) {
            store_f32(scores[row] + block * BLOCK_TOKENS, low[block][row]);
            store_f32(scores[row] + block * BLOCK_TOKENS + LANES, high[block][row]);
        }
#endif
}

/* The scores of `blocks` blocks from block `number` of the step, for all queries that see them. */
INLINE void score_rows(const void *keys, const void *ahead, const size_t *starts, int number, int blocks, int is_bf16,
                       int head_dim, int rows, queries_t *q) {
    for (int first = 0, tile; first < rows; first += tile) {
        tile = tile_of(rows - first);
        if (q->seen[first + tile - 1] <= number * BLOCK_TOKENS) continue;
        const float *packed = q->packed + first * head_dim;
        float (*scores)[STEP_TOKENS] =
            (float (*)[STEP_TOKENS])(q->scores[first] + number * BLOCK_TOKENS);
#define SCORES_OF(n, blocks, kind) \
    score_blocks(keys, ahead, starts, blocks, kind, head_dim, packed, n, scores)
#define SCORE_BF16(n) SCORES_OF(n, 1, 1)
#define SCORE_FP32(n) SCORES_OF(n, 1, 0)
        if (blocks == 2 && is_bf16) tile == 1 ? SCORES_OF(1, 2, 1) : SCORES_OF(2, 2, 1);
        else if (blocks == 2) tile == 1 ? SCORES_OF(1, 2, 0) : SCORES_OF(2, 2, 0);
        else if (is_bf16) FOR_ROWS(tile, SCORE_BF16)
        else FOR_ROWS(tile, SCORE_FP32)
    }
}

/* Turns the scores of one row's step into weights and returns their sum; the maximum follows. */
INLINE float weigh_step(float *scores, int tokens, float *most) {
    f32x8 highest = splat_f32(-INFINITY), total = splat_f32(0.0f);
    int used = (tokens + LANES - 1) / LANES * LANES;
    for (int at = tokens; at < used; at++) scores[at] = -INFINITY;
    for (int at = 0; at < used; at += LANES) highest = max_f32(highest, load_f32(scores + at));
    float now = most_f32(highest);
    *most = now > *most ? now : *most;
    for (int at = 0; at < used; at += LANES) {
        f32x8 weight = exp_f32(load_f32(scores + at) - splat_f32(*most));
        store_f32(scores + at, weight);
        total = total + weight;
    }
    return sum_f32(total);
}

/* Weights of all rows; `scales` becomes what the sums of earlier steps have to be multiplied by. */
INLINE void weigh_rows(int rows, queries_t *q) {
    float totals[QUERIES] = {0.0f};
    for (int row = 0; row < rows; row++) {
        q->scales[row] = 0.0f;
        if (!q->seen[row]) continue;
        float before = q->most[row];
        totals[row] = weigh_step(q->scores[row], q->seen[row], &q->most[row]);
        q->scales[row] = before - q->most[row];
    }
    for (int row = 0; row < rows; row += LANES) {
        f32x8 scale = exp_f32(load_f32(q->scales + row));
        store_f32(q->scales + row, scale);
        store_f32(q->sum + row, load_f32(q->sum + row) * scale + load_f32(totals + row));
    }
}

/* Where a step's values are: token t at starts[t / 16] + t % 16 * stride. `ahead` of each of them,
 * in keys, lies what is asked for beside it. */
typedef struct {
    const void *values, *keys;
    size_t starts[STEP_BLOCKS], ahead[STEP_BLOCKS], stride;
} values_t;

#ifdef LCCC_WIDE
/* As the next function, sixteen lanes at a time. */
INLINE void add_wide_values(const values_t *from, int is_bf16, size_t d, int begin, int end,
                            int rows, int vectors, float (*weights)[STEP_TOKENS],
                            const float *scales, float (*sums)[MAX_HEAD_DIM]) {
    __m512 sum[TILE][MOST_VECTORS / 2];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++)
            sum[row][v] = _mm512_mul_ps(_mm512_loadu_ps(sums[row] + v * 2 * LANES),
                                        _mm512_set1_ps(scales[row]));
    for (int first = begin, last; first < end; first = last) {
        int offset = first % BLOCK_TOKENS;
        size_t place = from->starts[first / BLOCK_TOKENS] + offset * from->stride + d;
        const uint16_t *keys = (const uint16_t *)from->keys + from->ahead[first / BLOCK_TOKENS];
        last = end - first < BLOCK_TOKENS - offset ? end : first + BLOCK_TOKENS - offset;
        for (int at = first; at < last; at++, place += from->stride) {
            __m512 value[MOST_VECTORS / 2];
            for (int v = 0; v < vectors; v++) {
                if (is_bf16 && v % 2 == 0)
                    __builtin_prefetch(keys + place + v * 2 * LANES, 0, 2);
                value[v] = load_wide(from->values, place + v * 2 * LANES, is_bf16);
            }
            for (int row = 0; row < rows; row++) {
                __m512 weight = _mm512_set1_ps(weights[row][at]);
                for (int v = 0; v < vectors; v++)
                    sum[row][v] = _mm512_fmadd_ps(weight, value[v], sum[row][v]);
            }
        }
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(sums[row] + v * 2 * LANES, sum[row][v]);
}
#endif

/* sums[row] = scale * sums[row] + weights . values over the step's tokens from `begin` to `end`, in
 * order, for `vectors` vectors from `d`. */
INLINE void add_values(const values_t *from, int is_bf16, size_t d, int begin, int end, int rows,
                       int vectors, float (*weights)[STEP_TOKENS], const float *scales,
                       float (*sums)[MAX_HEAD_DIM]) {
#ifdef LCCC_WIDE
    if (vectors > 1) {
        add_wide_values(from, is_bf16, d, begin, end, rows, vectors / 2, weights, scales, sums);
        return;
    }
#endif
    f32x8 sum[TILE][4];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++)
            sum[row][v] = load_f32(sums[row] + v * LANES) * splat_f32(scales[row]);
    for (int first = begin, last; first < end; first = last) {
        int offset = first % BLOCK_TOKENS;
        size_t place = from->starts[first / BLOCK_TOKENS] + offset * from->stride + d;
        const uint16_t *keys = (const uint16_t *)from->keys + from->ahead[first / BLOCK_TOKENS];
        last = end - first < BLOCK_TOKENS - offset ? end : first + BLOCK_TOKENS - offset;
        for (int at = first; at < last; at++, place += from->stride) {
            f32x8 value[4];
            if (is_bf16) __builtin_prefetch(keys + place, 0, 2);
            for (int v = 0; v < vectors; v++)
                value[v] = load_stored(from->values, place + v * LANES, is_bf16);
            for (int row = 0; row < rows; row++) {
                f32x8 weight = splat_f32(weights[row][at]);
                for (int v = 0; v < vectors; v++)
                    sum[row][v] = fma_f32(weight, value[v], sum[row][v]);
            }
        }
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) store_f32(sums[row] + v * LANES, sum[row][v]);
}

/* Some vectors of one tile, whose sums begin at dimension `to`. Later queries may see a little more
 * than the first; the others do not touch that, whatever it holds. */
INLINE void add_part(const values_t *from, int is_bf16, size_t d, int first, int rows, int vectors,
                     int to, queries_t *q) {
    float (*sums)[MAX_HEAD_DIM] = (float (*)[MAX_HEAD_DIM])(q->sums[first] + to);
    const int *seen = q->seen + first;
    const float one = 1.0f;
    add_values(from, is_bf16, d, 0, seen[0], rows, vectors, q->scores + first, q->scales + first,
               sums);
    for (int row = 1; row < rows; row++)
        if (seen[row] > seen[0])
            add_values(from, is_bf16, d, seen[0], seen[row], 1, vectors, q->scores + first + row,
                       &one, sums + row);
}

/* Some vectors for all queries that see something of the step. */
INLINE void add_rows(const values_t *from, int is_bf16, size_t d, int vectors, int to, int rows,
                     queries_t *q) {
    for (int first = 0, tile; first < rows; first += tile) {
        tile = tile_of(rows - first);
        if (!q->seen[first + tile - 1]) continue;
#define ADD_ROWS(n) add_part(from, is_bf16, d, first, n, vectors, to, q)
        if (vectors == MOST_VECTORS && tile == 1) ADD_ROWS(1);
        else if (vectors == MOST_VECTORS) ADD_ROWS(2);
        else FOR_ROWS(tile, ADD_ROWS)
    }
}

/* All dimensions, as many vectors at a time as there are registers for. */
INLINE void add_step(const values_t *from, int is_bf16, int is_widened, int head_dim, int rows,
                     queries_t *q) {
    const int most = rows <= 2 ? MOST_VECTORS : 2;
    for (int d = 0, vectors; d < head_dim; d += vectors * LANES) {
        size_t place = is_widened ? d / SLICE * SLICE * STEP_TOKENS + d % SLICE : d;
        vectors = head_dim - d >= most * LANES ? most : head_dim - d >= 2 * LANES ? 2 : 1;
        if (vectors == MOST_VECTORS) add_rows(from, is_bf16, place, MOST_VECTORS, d, rows, q);
        else if (vectors == 2) add_rows(from, is_bf16, place, 2, d, rows, q);
        else add_rows(from, is_bf16, place, 1, d, rows, q);
    }
}

/* The keys of a step. */
INLINE void score_step(const kv_layer *kv, const size_t *starts, int blocks, int is_widened,
                       int rows, queries_t *q) {
    const int head_dim = kv->head_dim;
    const uint16_t *keys = kv->keys, *values = kv->values;
    const size_t zero = 0;
    for (int block = 0, count; block < blocks; block += count) {
        count = rows <= 2 && blocks - block >= 2 ? 2 : 1;
        if (is_widened) {
            widen_keys(keys + starts[block], values + starts[block], head_dim, q->widened);
            score_rows(q->widened, NULL, &zero, block, 1, 0, head_dim, rows, q);
        } else {
            score_rows(keys, values, starts + block, block, count, kv->is_bf16, head_dim, rows, q);
        }
    }
}

/* The values of a step. starts: of its blocks, and then of those of the next. */
INLINE void value_step(const kv_layer *kv, const size_t *starts, int blocks, int is_widened,
                       int rows, queries_t *q) {
    values_t from = {.values = kv->values, .keys = kv->keys, .stride = kv->head_dim};
    for (int block = 0; block < STEP_BLOCKS; block++) {
        from.starts[block] = starts[block];
        from.ahead[block] = starts[block + STEP_BLOCKS] - starts[block];
    }
    if (is_widened) {
        const uint16_t *keys = kv->keys, *values = kv->values;
        from = (values_t){.values = q->widened, .stride = SLICE};
        for (int block = 0; block < blocks; block++) {
            from.starts[block] = block * BLOCK_TOKENS * SLICE;
            widen_values(values + starts[block], keys + starts[block + STEP_BLOCKS], kv->head_dim,
                         q->widened + from.starts[block]);
        }
    }
    if (kv->is_bf16 && !is_widened) add_step(&from, 1, 0, kv->head_dim, rows, q);
    else add_step(&from, 0, is_widened, kv->head_dim, rows, q);
}

/* Readies `rows` queries of a task: as they are, [head_dim] each. */
INLINE void pack_queries(const float *const *queries, int head_dim, int rows, queries_t *q) {
    for (int first = 0, tile; first < rows; first += tile) {
        tile = tile_of(rows - first);
        float *packed = q->packed + first * head_dim;
        for (int row = 0; row < tile; row++)
            for (int d = 0; d < head_dim; d++) packed[d * tile + row] = queries[first + row][d];
    }
    for (int row = 0; row < rows; row++) {
        memset(q->sums[row], 0, head_dim * sizeof(float));
        q->most[row] = -INFINITY, q->sum[row] = 0.0f;
    }
}

/* Each of `rows` queries (scaled already) over the first `q->limits[row]` tokens of a sequence
 * whose blocks are `table`. Limits do not fall. outputs: [rows] of head_dim floats. */
static void attend(const kv_layer *kv, const int32_t *table, int kv_head,
                   const float *const *queries, int rows, queries_t *q, float *const *outputs) {
    size_t per_head = (size_t)BLOCK_TOKENS * kv->head_dim;
    const int is_widened = kv->is_bf16 && rows > FEW;
    int end = q->limits[rows - 1], all = (end + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    pack_queries(queries, kv->head_dim, rows, q);
    for (int start = 0; start < end; start += STEP_TOKENS) {
        size_t starts[2 * STEP_BLOCKS];
        for (int at = 0; at < 2 * STEP_BLOCKS; at++) {
            /* After the last step, the next key head is likely to be asked for. */
            int is_other = at >= STEP_BLOCKS && start + STEP_TOKENS >= end;
            int block = is_other ? at - STEP_BLOCKS : start / BLOCK_TOKENS + at;
            int head = kv_head + (is_other && kv_head + 1 < kv->kv_heads);
            size_t number = (size_t)table[block < all ? block : all - 1];
            starts[at] = (number * kv->kv_heads + head) * per_head;
        }
        int tokens = end - start < STEP_TOKENS ? end - start : STEP_TOKENS;
        for (int row = 0; row < rows; row++) {
            int left = q->limits[row] - start;
            q->seen[row] = left < 0 ? 0 : left < tokens ? left : tokens;
        }
        int blocks = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
        score_step(kv, starts, blocks, is_widened, rows, q);
        weigh_rows(rows, q);
        value_step(kv, starts, blocks, is_widened, rows, q);
    }
    for (int row = 0; row < rows; row++) {
        f32x8 share = splat_f32(1.0f / q->sum[row]);
        for (int d = 0; d < kv->head_dim; d += LANES)
            store_f32(outputs[row] + d, load_f32(q->sums[row] + d) * share);
    }
}

#endif
