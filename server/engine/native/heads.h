/* The attention's phases: queries, keys and values of all tokens, and which thread looks at what. */
#ifndef LCCC_HEADS_H
#define LCCC_HEADS_H

#include "quantise.h"
#include "team.h"

#define TASKS_A_THREAD 4 /* at least, where there are rows enough */

static void rotate(float *head, const float *cosines, const float *sines, int size, float scale) {
    int half = size / 2;
    for (int at = 0; at < half; at++) {
        float first = head[at], second = head[at + half];
        head[at] = (first * cosines[at] - second * sines[at]) * scale;
        head[at + half] = (second * cosines[at + half] + first * sines[at + half]) * scale;
    }
}

/* head_start: of the block's key head; offset: the token's in the block. */
static void write_key_and_value(const step_t *step, int layer, size_t head_start, int offset,
                                const float *key, const float *value, int head_dim) {
    size_t key_at = head_start + offset, value_at = head_start + (size_t)offset * head_dim;
    if (!step->is_kv_bf16) {
        float *keys = (float *)step->keys[layer] + key_at;
        for (int d = 0; d < head_dim; d++) keys[d * BLOCK_TOKENS] = key[d];
        memcpy((float *)step->values[layer] + value_at, value, head_dim * sizeof *value);
        return;
    }
    uint16_t *keys = (uint16_t *)step->keys[layer] + key_at;
    uint16_t *values = (uint16_t *)step->values[layer] + value_at;
    for (int d = 0; d < head_dim; d += LANES) {
        u16x8 short_key = to_bf16s(load_f32(key + d)), short_value = to_bf16s(load_f32(value + d));
        for (int lane = 0; lane < LANES; lane++) keys[(d + lane) * BLOCK_TOKENS] = short_key[lane];
        memcpy(values + d, &short_value, sizeof short_value);
    }
}

/* Phase: norm and rotation of queries and keys; keys and values go to the cache. */
static void place_rows(worker_t *self, int layer) {
    const model_t *m = self->shared->model;
    const step_t *step = self->shared->step;
    const buffers_t *b = &self->shared->buffers;
    const float *norms = m->layer[layer].qk_norm;
    int size = m->head_dim, heads = m->heads + m->kv_heads;
    /* Tokens of one block lie in the same cache lines, which two threads should not both write. */
    int unit = step->tokens >= 2 * BLOCK_TOKENS * self->threads ? BLOCK_TOKENS : 1;
    EACH_TASK(self, (step->tokens + unit - 1) / unit, task)
    for (int row = task * unit; row < (task + 1) * unit && row < step->tokens; row++) {
        float *qkv = b->qkv + (size_t)row * (heads + m->kv_heads) * size;
        const float *cosines = m->cosines + step->position[row] * size;
        const float *sines = m->sines + step->position[row] * size;
        for (int head = 0; head < heads; head++) {
            float *at = qkv + (size_t)head * size;
            if (norms) normalise(at, norms + (size_t)head * size, size, m->epsilon, at);
            rotate(at, cosines, sines, size, head < m->heads ? m->query_scale : 1.0f);
        }
        size_t block = step->place[row] / BLOCK_TOKENS;
        for (int head = 0; head < m->kv_heads; head++)
            write_key_and_value(step, layer, (block * m->kv_heads + head) * BLOCK_TOKENS * size,
                                step->place[row] % BLOCK_TOKENS,
                                qkv + (size_t)(m->heads + head) * size,
                                qkv + (size_t)(heads + head) * size, size);
    }
    meet(self, TIME_ATTENTION);
}

/* Rows of attention: each head of each token of a chunk that reads one key head. */
static int query_rows(const model_t *m, int count) { return count * (m->heads / m->kv_heads); }

/* How many tasks a key head's rows of one chunk are. */
static int pieces_of(const shared_t *shared, int chunk) {
    int rows = query_rows(shared->model, shared->step->count[chunk]);
    return (rows + shared->most_queries - 1) / shared->most_queries;
}

/* Large tasks read the cache for many rows at once; every thread has a few of them all the same. */
static void plan_attention(shared_t *shared) {
    const step_t *step = shared->step;
    int kv_heads = shared->model->kv_heads;
    int64_t share = (int64_t)query_rows(shared->model, step->tokens) * kv_heads /
                    (step->threads * TASKS_A_THREAD);
    shared->most_queries = share < TILE ? TILE : share < QUERIES ? share : QUERIES;
    shared->task_start[0] = 0;
    for (int chunk = 0; chunk < step->chunks; chunk++)
        shared->task_start[chunk + 1] =
            shared->task_start[chunk] + kv_heads * pieces_of(shared, chunk);
}

static int chunk_of(const int *starts, int chunks, int task) {
    int low = 0, high = chunks - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (starts[middle] <= task) low = middle;
        else high = middle - 1;
    }
    return low;
}

static void attend_task(worker_t *self, int layer, int task) {
    const model_t *m = self->shared->model;
    const step_t *step = self->shared->step;
    const buffers_t *b = &self->shared->buffers;
    int chunk = chunk_of(self->shared->task_start, step->chunks, task);
    int inner = task - self->shared->task_start[chunk], pieces = pieces_of(self->shared, chunk);
    int kv_head = inner / pieces, piece = inner % pieces;
    int group = m->heads / m->kv_heads, size = m->head_dim;
    int all = query_rows(m, step->count[chunk]);
    int first = (int)((int64_t)all * piece / pieces);
    int rows = (int)((int64_t)all * (piece + 1) / pieces) - first;
    const float *queries[QUERIES];
    float *outputs[QUERIES];
    for (int row = 0; row < rows; row++) {
        int query = (first + row) / group, head = kv_head * group + (first + row) % group;
        size_t token = step->begin[chunk] + query;
        queries[row] = b->qkv + (token * (m->heads + 2 * m->kv_heads) + head) * size;
        outputs[row] = b->attended + (token * m->heads + head) * size;
        self->queries->limits[row] = step->past[chunk] + query + 1;
    }
    const kv_layer kv = {step->keys[layer], step->values[layer], m->kv_heads, size,
                         step->is_kv_bf16};
    attend(&kv, step->table + (size_t)chunk * step->table_width, kv_head, queries, rows,
           self->queries, outputs);
}

static void attend_rows(worker_t *self, int layer) {
    const shared_t *shared = self->shared;
    EACH_TASK(self, shared->task_start[shared->step->chunks], task) attend_task(self, layer, task);
    meet(self, TIME_ATTENTION);
}

#endif
