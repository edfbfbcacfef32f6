/* What a forward pass is given, and what its threads share. */
#ifndef LCCC_STEP_H
#define LCCC_STEP_H

#include <stdatomic.h>

#include "attention.h"
#include "gemm.h"

#define LINE 16 /* counters in a line of the cache, which threads should not share */

enum { GROUP_QKV, GROUP_OUTPUT, GROUP_GATE_UP, GROUP_DOWN, GROUPS };
enum { TIME_LINEARS, TIME_ATTENTION, TIME_ADAPTERS, TIME_ELEMENTWISE, TIME_HEAD, TIMES };

typedef struct {
    int32_t format, outputs, inputs, panels;
    const void *codes;   /* by panels, see gemm.h; nf4: a block's scales before its codes */
    const float *scales; /* int8: one of every output */
    const float *bias;   /* of every output, or NULL */
} linear_t;

static const char *panel_of(const linear_t *linear, int panel) {
    return (const char *)linear->codes + panel * panel_bytes(linear->format, linear->inputs);
}

typedef struct {
    const float *input_norm, *qk_norm, *mlp_norm; /* qk_norm: [heads + kv_heads][head_dim] or NULL */
    linear_t qkv, output, gate_up, down;          /* gate_up: panels of 8 gates and 8 ups */
} layer_t;

typedef struct {
    int32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, embedding_format;
    float epsilon, query_scale;
    const void *embedding;        /* [vocabulary][hidden] fp32 or bf16 */
    const float *cosines, *sines; /* [context][head_dim] */
    const float *norm;
    linear_t head;
    const layer_t *layer;
} model_t;

/* One adapter's factors of one group in one layer; NULL where it has none. */
typedef struct {
    const void *shrink; /* panels of the A of the group's projections, one after the other */
    const void *expand; /* for each panel of the group's linear: [rank][16] */
    const float *scales; /* of bytes: what each output of shrink is multiplied with, or NULL */
} factors_t;

typedef struct {
    int32_t rank, format;     /* fp32, bf16 or int8 */
    const factors_t *factors; /* [layers][GROUPS] */
} adapter_t;

typedef struct {
    int32_t tokens, chunks, table_width, sampled, adapters, threads, is_kv_bf16;
    const int64_t *token, *position, *place; /* [tokens] */
    const int32_t *begin, *count, *past;     /* [chunks] */
    const int32_t *table;                    /* [chunks][table_width] */
    const int64_t *sample;                   /* [sampled], rising */
    const adapter_t *adapter;                /* [adapters] */
    const int32_t *adapter_start;            /* [adapters + 1], into: */
    const int32_t *adapter_row;              /* token indices, by adapter */
    void *const *keys, *const *values;       /* [layers] */
    float *logits;                           /* [sampled][vocabulary] */
    char *workspace;                         /* lccc_workspace_bytes */
    double *seconds;                         /* [TIMES], added to; or NULL */
} step_t;

/* With several tiles of rows the processor reads a panel faster than memory gives it, and then has
 * it in its cache: so the next panel is asked for while this one is computed. */
static void fetch_panel(const linear_t *linear, int panel, int rows) {
    if (rows > TILE && panel < linear->panels)
        fetch(panel_of(linear, panel), panel_bytes(linear->format, linear->inputs));
}

/* Buffers of one step, all of `tokens` rows. */
typedef struct {
    float *hidden, *normed, *qkv, *attended, *wide, *shrunk;
    int16_t *q16;    /* quantised inputs of int8 products, see prepare_int8 */
    float *scale16;  /* one of every row */
    int8_t *q8;      /* of products with blocks, by tiles of rows: see rows_q8 */
    float *scale8;   /* [row][block] */
    int32_t *start8; /* [row][block], see rows_q8 */
    int stride, blocks, shrunk_stride;
    uint8_t nf4[32]; /* nf4_table */
} buffers_t;

/* What a step of the sampled rows alone reads, see sampled.h. */
typedef struct {
    int32_t *begin, *count, *past; /* [sampled] */
    int32_t *table;                /* [sampled][table_width] */
    int32_t *adapter_start;        /* [adapters + 1] */
    int32_t *adapter_row, *row_of; /* [tokens] */
    int64_t *sample;               /* [sampled] */
} sampled_t;

typedef struct {
    const model_t *model;
    const step_t *step;
    step_t last; /* what `step` becomes for the end of the last layer */
    sampled_t sampled;
    buffers_t buffers;
    atomic_int arrived, round;
    atomic_int *taken;  /* [phases][threads][LINE], of which the first counts */
    int *task_start;    /* [chunks + 1] attention tasks */
    int most_queries;   /* of one of them */
    panel_f32 *sums;    /* sums_of_a_thread of each thread */
    queries_t *queries; /* one of each thread */
} shared_t;

typedef struct {
    shared_t *shared;
    int thread, threads, round, phase;
    double since;
    panel_f32 *sums; /* sums_of_a_thread: results of panels, [panels][tokens] */
    queries_t *queries;
} worker_t;

#endif
