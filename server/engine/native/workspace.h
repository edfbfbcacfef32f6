/* The memory of a step: one piece, cut into buffers. */
#ifndef LCCC_WORKSPACE_H
#define LCCC_WORKSPACE_H

#include "products.h"

/* Panels times rows of results that a thread collects. */
#ifdef LCCC_WIDE
#define SUMS_AT_ONCE 4096
#else
#define SUMS_AT_ONCE 256
#endif
#define PHASES_A_LAYER 16 /* 14 are in use, and four outside of layers */

typedef struct { char *at; size_t used; } arena_t;

static void *cut(arena_t *arena, size_t bytes) {
    void *piece = arena->at ? arena->at + arena->used : NULL;
    arena->used += (bytes + 63) / 64 * 64;
    return piece;
}

static int most_shrunk(const step_t *step) {
    int most = PANEL;
    for (int at = 0; at < step->adapters; at++) {
        int needed = padded(3 * step->adapter[at].rank, PANEL);
        most = needed > most ? needed : most;
    }
    return most;
}

static size_t sums_of_a_thread(const step_t *step) {
    return step->tokens > SUMS_AT_ONCE ? step->tokens : SUMS_AT_ONCE;
}

static size_t counters_bytes(const model_t *m, const step_t *step) {
    return (size_t)(PHASES_A_LAYER * m->layers + 8) * step->threads * LINE * sizeof(atomic_int);
}

static void cut_sampled(arena_t *arena, const step_t *step, sampled_t *own) {
    size_t rows = step->sampled;
    own->begin = cut(arena, rows * sizeof(int32_t));
    own->count = cut(arena, rows * sizeof(int32_t));
    own->past = cut(arena, rows * sizeof(int32_t));
    own->table = cut(arena, rows * step->table_width * sizeof(int32_t));
    own->adapter_start = cut(arena, (step->adapters + 1) * sizeof(int32_t));
    own->adapter_row = cut(arena, step->tokens * sizeof(int32_t));
    own->row_of = cut(arena, step->tokens * sizeof(int32_t));
    own->sample = cut(arena, rows * sizeof(int64_t));
}

/* Lays the step's memory out; returns how much it is. */
static size_t lay_out(const model_t *m, const step_t *step, shared_t *shared) {
    arena_t arena = {step->workspace, 0};
    buffers_t *b = &shared->buffers;
    size_t rows = step->tokens;
    int queries = m->heads * m->head_dim, widest = m->hidden > queries ? m->hidden : queries;
    widest = widest > m->intermediate ? widest : m->intermediate;
    b->stride = padded(widest, NF4_BLOCK);
    b->blocks = b->stride / NF4_BLOCK;
    b->shrunk_stride = most_shrunk(step);
    set_nf4(b);
    b->hidden = cut(&arena, rows * m->hidden * sizeof(float));
    b->normed = cut(&arena, rows * m->hidden * sizeof(float));
    b->qkv = cut(&arena, rows * (queries + 2 * m->kv_heads * m->head_dim) * sizeof(float));
    b->attended = cut(&arena, rows * queries * sizeof(float));
    b->wide = cut(&arena, rows * m->intermediate * sizeof(float));
    b->shrunk = cut(&arena, rows * b->shrunk_stride * sizeof(float));
    b->q16 = cut(&arena, rows * b->stride * sizeof(int16_t) + TILE_SLACK);
    b->scale16 = cut(&arena, rows * sizeof(float));
    b->q8 = cut(&arena, rows * b->stride + TILE_SLACK);
    b->scale8 = cut(&arena, rows * b->blocks * sizeof(float));
    b->start8 = cut(&arena, rows * b->blocks * sizeof(int32_t));
    shared->sums = cut(&arena, step->threads * sums_of_a_thread(step) * sizeof(panel_f32));
    shared->queries = cut(&arena, step->threads * sizeof(queries_t));
    shared->taken = cut(&arena, counters_bytes(m, step));
    cut_sampled(&arena, step, &shared->sampled);
    int chunks = step->chunks > step->sampled ? step->chunks : step->sampled;
    shared->task_start = cut(&arena, (chunks + 1) * sizeof(int));
    return arena.used;
}

#endif
