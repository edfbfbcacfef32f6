/* The forward pass of a dense Llama-family decoder over one step's tokens, on a CPU.
 *
 * All threads go through the same phases, with a barrier after each; within a phase they take
 * tasks as they come. What a task computes depends on nothing but its inputs, so neither the number
 * of threads nor the company in the batch changes a single bit of a row.
 */
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "attention.h"
#include "gemm.h"

enum { GROUP_QKV, GROUP_OUTPUT, GROUP_GATE_UP, GROUP_DOWN, GROUPS };
enum { TIME_LINEARS, TIME_ATTENTION, TIME_ADAPTERS, TIME_ELEMENTWISE, TIME_HEAD, TIMES };

#define MOST_INT16 16256 /* what two signed bytes can hold: see the torch path of int8 */
#define SHRINK_ROWS 24   /* rows of an adapter in one task */
#define SUMS_AT_ONCE 256 /* panels times rows of results that a thread collects */

typedef struct {
    int32_t format, outputs, inputs, panels;
    const void *codes;   /* by panels, see gemm.h; nf4: a block's scales before its codes */
    const float *scales; /* int8: one of every output */
    const float *bias;   /* of every output, or NULL */
} linear_t;

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
} factors_t;

typedef struct {
    int32_t rank, format;     /* fp32 or bf16 */
    const factors_t *factors; /* [layers][GROUPS] */
} adapter_t;

typedef struct {
    int32_t tokens, chunks, table_width, sampled, adapters, threads, is_kv_bf16;
    const int64_t *token, *position, *place; /* [tokens] */
    const int32_t *begin, *count, *past;     /* [chunks] */
    const int32_t *table;                    /* [chunks][table_width] */
    const int64_t *sample;                   /* [sampled] */
    const adapter_t *adapter;                /* [adapters] */
    const int32_t *adapter_start;            /* [adapters + 1], into: */
    const int32_t *adapter_row;              /* token indices, by adapter */
    void *const *keys, *const *values;       /* [layers] */
    float *logits;                           /* [sampled][vocabulary] */
    char *workspace;                         /* lccc_workspace_bytes */
    double *seconds;                         /* [TIMES], added to; or NULL */
} step_t;

/* Buffers of one step, all of `tokens` rows. */
typedef struct {
    float *hidden, *normed, *qkv, *attended, *wide, *shrunk;
    int16_t *q16;   /* quantised inputs of int8 products */
    float *scale16; /* one of every row */
    int8_t *q8;     /* of products with blocks */
    float *scale8;  /* [row][block] */
    int32_t *sum8;  /* [row][block] */
    int stride, blocks, shrunk_stride;
    uint8_t nf4[32]; /* nf4_table */
} buffers_t;

typedef struct {
    const model_t *model;
    const step_t *step;
    buffers_t buffers;
    atomic_int arrived, round;
    atomic_int *taken; /* one counter a phase */
    int *task_start;   /* [chunks + 1] attention tasks */
} shared_t;

typedef struct {
    shared_t *shared;
    int thread, threads, round, phase;
    double since;
    panel_f32 *sums; /* sums_of_a_thread: results of panels, [panels][tokens] */
} worker_t;

/* --- working together ------------------------------------------------------------------------ */

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static inline void relax(void) {
#ifdef LCCC_AVX2
    _mm_pause();
#endif
}

/* Ends a phase. Waits by spinning for a short while, then lets others have the core. */
static void meet(worker_t *self, int kind) {
    shared_t *shared = self->shared;
    self->phase++;
    if (self->threads > 1) {
        int round = ++self->round;
        if (atomic_fetch_add(&shared->arrived, 1) == self->threads - 1) {
            atomic_store(&shared->arrived, 0);
            atomic_store(&shared->round, round);
        } else {
            for (int spins = 0; atomic_load(&shared->round) != round; spins++) {
                if (spins < 4000) relax();
                else sched_yield();
            }
        }
    }
    if (self->thread == 0 && shared->step->seconds) {
        double then = self->since;
        self->since = now();
        shared->step->seconds[kind] += self->since - then;
    }
}

/* The first of the next `grain` tasks of this phase, or a number beyond the last. */
static int take(worker_t *self, int grain) {
    return atomic_fetch_add(&self->shared->taken[self->phase], grain);
}

static int grain_of(const worker_t *self, int tasks) {
    int grain = tasks / (self->threads * 12);
    return grain < 1 ? 1 : grain > 64 ? 64 : grain;
}

#define EACH_TASK(self, tasks, task)                                                       \
    for (int grain = grain_of(self, tasks), first = take(self, grain); first < (tasks);     \
         first = take(self, grain))                                                         \
        for (int task = first; task < first + grain && task < (tasks); task++)

/* --- rows ------------------------------------------------------------------------------------ */

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

/* One row as 16-bit whole numbers and their scale. Rows with a number that is none, or infinite,
 * get a scale that is no number, so that the row's results are none either. */
static void quantise16(const float *x, int size, int stride, int16_t *q, float *scale) {
    float most = largest(x, size);
    int limit = most_input(size);
    memset(q + size, 0, (stride - size) * sizeof *q);
    if (!(most >= LEAST && most < INFINITY)) {
        *scale = most < LEAST ? 0.0f : NAN;
        memset(q, 0, size * sizeof *q);
        return;
    }
    *scale = most / limit;
    float factor = limit / most;
    int at = 0;
    for (; at + LANES <= size; at += LANES) {
        i16x8 whole = __builtin_convertvector(nearest(load_f32(x + at) * splat_f32(factor)), i16x8);
        memcpy(q + at, &whole, sizeof whole);
    }
    for (; at < size; at++) q[at] = (int16_t)lrintf(x[at] * factor);
}

/* One row by blocks of 64 as signed bytes, their scales and their sums. */
static void quantise8(const float *x, int size, int8_t *q, float *scales, int32_t *sums) {
    for (int block = 0; block * NF4_BLOCK < size; block++) {
        const float *from = x + block * NF4_BLOCK;
        int8_t *to = q + block * NF4_BLOCK;
        int count = size - block * NF4_BLOCK < NF4_BLOCK ? size - block * NF4_BLOCK : NF4_BLOCK;
        float most = largest(from, count);
        int32_t sum = 0;
        memset(to, 0, NF4_BLOCK);
        if (most >= LEAST && most < INFINITY) {
            float factor = 127.0f / most;
            int at = 0;
            i32x8 total = {0};
            for (; at + LANES <= count; at += LANES) {
                i32x8 whole = nearest(load_f32(from + at) * splat_f32(factor));
                i8x8 bytes = __builtin_convertvector(whole, i8x8);
                memcpy(to + at, &bytes, sizeof bytes);
                total += whole;
            }
            for (int lane = 0; lane < LANES; lane++) sum += total[lane];
            for (; at < count; at++) sum += to[at] = (int8_t)lrintf(from[at] * factor);
            scales[block] = most / 127.0f;
        } else {
            scales[block] = most < LEAST ? 0.0f : NAN;
        }
        sums[block] = sum;
    }
}

/* Makes one row ready for the products of `format`. */
static void prepare_row(const buffers_t *b, int format, const float *x, int size, int row) {
    if (format == FORMAT_INT8)
        quantise16(x, size, b->stride, b->q16 + (size_t)row * b->stride, b->scale16 + row);
    else if (has_blocks(format))
        quantise8(x, size, b->q8 + (size_t)row * b->stride, b->scale8 + (size_t)row * b->blocks,
                  b->sum8 + (size_t)row * b->blocks);
}

/* --- products -------------------------------------------------------------------------------- */

static void set_nf4(buffers_t *b) {
    u8x32 table = nf4_table();
    memcpy(b->nf4, &table, sizeof table);
}

/* Asks for memory that will be read soon. */
static void fetch(const char *from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
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

static void panel_blocks(const linear_t *linear, int panel, const buffers_t *b, int first,
                         int rows, panel_f32 *sums) {
    int blocks = padded(linear->inputs, NF4_BLOCK) / NF4_BLOCK;
    const uint8_t *codes = (const uint8_t *)panel_of(linear, panel);
    u8x32 table;
    memcpy(&table, b->nf4, sizeof table);
    rows_q8 x;
    for (int row = 0; row < rows; row++) {
        size_t at = first + row;
        x.inputs[row] = b->q8 + at * b->stride;
        x.scales[row] = b->scale8 + at * b->blocks;
        x.totals[row] = b->sum8 + at * b->blocks;
    }
#define NF4_ROWS(n) tile_nf4(codes, table, blocks, &x, n, sums)
#define INT7_ROWS(n) tile_int7(codes, blocks, &x, n, sums)
    if (linear->format == FORMAT_NF4) FOR_ROWS(rows, NF4_ROWS)
    else FOR_ROWS(rows, INT7_ROWS)
}

/* With several tiles of rows the processor reads a panel faster than memory gives it, and then has
 * it in its cache: so the next panel is asked for while this one is computed. */
static void fetch_panel(const linear_t *linear, int panel, int rows) {
    if (rows > TILE && panel < linear->panels)
        fetch(panel_of(linear, panel), panel_bytes(linear->format, linear->inputs));
}

/* One panel of `linear` for all `rows` of x, [rows][inputs], which are prepared. */
static void panel_sums(const buffers_t *b, const linear_t *linear, int panel, const float *x,
                       int rows, panel_f32 *sums) {
    fetch_panel(linear, panel + 1, rows);
    for (int first = 0, count; first < rows; first += count) {
        count = tile_of(rows - first);
        if (has_blocks(linear->format)) {
            panel_blocks(linear, panel, b, first, count, sums + first);
        } else if (linear->format == FORMAT_INT8) {
            panel_int8(linear, panel, b, first, count, sums + first);
        } else {
            const float *from[TILE];
            for (int row = 0; row < count; row++)
                from[row] = x + (size_t)(first + row) * linear->inputs;
            panel_floats(panel_of(linear, panel), linear->format == FORMAT_BF16, linear->inputs,
                         from, from, count, sums + first);
        }
    }
    if (linear->bias) {
        f32x8 low = load_f32(linear->bias + panel * PANEL);
        f32x8 high = load_f32(linear->bias + panel * PANEL + LANES);
        for (int row = 0; row < rows; row++) sums[row].low += low, sums[row].high += high;
    }
}

/* --- adapters -------------------------------------------------------------------------------- */

/* The projections of a group, and of which of them each half of a panel is. */
typedef struct { int parts, ends[3]; } parts_t;

static parts_t parts_of(const model_t *m, int group) {
    int queries = m->heads * m->head_dim, keys = m->kv_heads * m->head_dim;
    if (group == GROUP_QKV) return (parts_t){3, {queries, queries + keys, queries + 2 * keys}};
    if (group == GROUP_GATE_UP) return (parts_t){2, {0, 0, 0}};
    return (parts_t){1, {1 << 30, 0, 0}};
}

static int part_at(int group, parts_t parts, int output) {
    if (group == GROUP_GATE_UP) return output % PANEL >= LANES;
    int part = 0;
    while (part < parts.parts - 1 && output >= parts.ends[part]) part++;
    return part;
}

static const factors_t *factors_of(const adapter_t *adapter, int layer, int group) {
    return &adapter->factors[layer * GROUPS + group];
}

static size_t bytes_of(int format) { return format == FORMAT_FP32 ? 4 : 2; }

static int inputs_of(const model_t *m, int group) {
    if (group == GROUP_OUTPUT) return m->heads * m->head_dim;
    return group == GROUP_DOWN ? m->intermediate : m->hidden;
}

/* Phase: shrunk = x . A for every row that has an adapter. */
static void shrink(worker_t *self, int layer, int group, const float *x) {
    const step_t *step = self->shared->step;
    const buffers_t *b = &self->shared->buffers;
    const model_t *m = self->shared->model;
    int parts = parts_of(m, group).parts, most = b->shrunk_stride / PANEL;
    int inputs = inputs_of(m, group);
    if (!step->adapters) return;
    int pieces = (step->tokens + SHRINK_ROWS - 1) / SHRINK_ROWS;
    EACH_TASK(self, step->adapters * most * pieces, task) {
        int number = task / (most * pieces), panel = task / pieces % most, piece = task % pieces;
        const adapter_t *adapter = &step->adapter[number];
        const factors_t *factors = factors_of(adapter, layer, group);
        if (!factors->shrink || panel * PANEL >= parts * adapter->rank) continue;
        const char *weights = (const char *)factors->shrink +
                              (size_t)panel * inputs * PANEL * bytes_of(adapter->format);
        int first = step->adapter_start[number] + piece * SHRINK_ROWS;
        int end = step->adapter_start[number + 1];
        end = end < first + SHRINK_ROWS ? end : first + SHRINK_ROWS;
        for (int at = first, count; at < end; at += count) {
            count = tile_of(end - at);
            const float *rows[TILE];
            panel_f32 sums[TILE];
            for (int row = 0; row < count; row++)
                rows[row] = x + (size_t)step->adapter_row[at + row] * inputs;
            panel_floats(weights, adapter->format == FORMAT_BF16, inputs, rows, rows, count, sums);
            for (int row = 0; row < count; row++)
                memcpy(b->shrunk + (size_t)step->adapter_row[at + row] * b->shrunk_stride +
                           panel * PANEL, &sums[row], sizeof sums[row]);
        }
    }
    meet(self, TIME_ADAPTERS);
}

/* Asks for what a panel's expand reads, a short stretch in each adapter that the processor would
 * not foresee, and for the panel's share of what the next group's shrink reads. It arrives while
 * the panel itself is computed. */
static void announce(worker_t *self, int layer, int group, int panel, int panels) {
    const step_t *step = self->shared->step;
    const model_t *m = self->shared->model;
    int next = (group + 1) % GROUPS, next_layer = layer + (next == GROUP_QKV);
    int parts = parts_of(m, next).parts;
    for (int number = 0; number < step->adapters; number++) {
        const adapter_t *adapter = &step->adapter[number];
        size_t width = bytes_of(adapter->format), stretch = adapter->rank * PANEL * width;
        const char *expand = factors_of(adapter, layer, group)->expand;
        if (expand) fetch(expand + panel * stretch, stretch);
        if (next_layer == m->layers) continue;
        const char *shrink = factors_of(adapter, next_layer, next)->shrink;
        size_t whole = (size_t)padded(parts * adapter->rank, PANEL) * inputs_of(m, next) * width;
        size_t share = (whole / panels + 63) / 64 * 64, from = panel * share;
        if (shrink && from < whole) fetch(shrink + from, from + share < whole ? share : whole - from);
    }
}

/* Adds what the adapters make of their rows to `count` panels from `first`, [count][rows] of sums. */
static void expand(worker_t *self, int layer, int group, int first, int count, panel_f32 *sums) {
    const step_t *step = self->shared->step;
    const buffers_t *b = &self->shared->buffers;
    parts_t parts = parts_of(self->shared->model, group);
    for (int number = 0; number < step->adapters; number++) {
        const adapter_t *adapter = &step->adapter[number];
        const char *weights = factors_of(adapter, layer, group)->expand;
        if (!weights) continue;
        int is_bf16 = adapter->format == FORMAT_BF16, rank = adapter->rank;
        size_t stretch = (size_t)rank * PANEL * bytes_of(adapter->format);
        int end = step->adapter_start[number + 1];
        for (int at = step->adapter_start[number], tile; at < end; at += tile) {
            tile = tile_of(end - at);
            for (int panel = first; panel < first + count; panel++) {
                /* The halves of a panel may belong to two projections, which read their own part
                 * of what shrink has left. */
                int part = part_at(group, parts, panel * PANEL) * rank;
                int next = part_at(group, parts, panel * PANEL + LANES) * rank;
                const float *low[TILE], *high[TILE];
                panel_f32 added[TILE], *to = sums + (size_t)(panel - first) * step->tokens;
                for (int row = 0; row < tile; row++) {
                    const float *shrunk =
                        b->shrunk + (size_t)step->adapter_row[at + row] * b->shrunk_stride;
                    low[row] = shrunk + part;
                    high[row] = shrunk + next;
                }
                panel_floats(weights + panel * stretch, is_bf16, rank, low, part == next ? low : high, tile,
                             added);
                for (int row = 0; row < tile; row++) {
                    panel_f32 *sum = &to[step->adapter_row[at + row]];
                    sum->low += added[row].low;
                    sum->high += added[row].high;
                }
            }
        }
    }
}

/* --- phases ---------------------------------------------------------------------------------- */

static void store_panel(float *to, panel_f32 sums, int count) {
    if (count >= PANEL) {
        memcpy(to, &sums, sizeof sums);
        return;
    }
    float lanes[PANEL];
    memcpy(lanes, &sums, sizeof lanes);
    memcpy(to, lanes, count * sizeof *to);
}

static f32x8 silu(f32x8 x) {
    f32x8 one = splat_f32(1.0f);
    i32x8 is_positive = x > splat_f32(0.0f);
    f32x8 small = exp_f32(select_f32(is_positive, -x, x));
    return x * select_f32(is_positive, one, small) / (one + small);
}

enum { STORE, ADD, GATE };

/* `width`: how many columns of a row there really are; a linear's last panel may have more. */
typedef struct { float *rows; int width, how; } target_t;

/* Puts one panel's sums where they belong: y = sums, y += sums, or y = silu(gate) * up. */
static void settle(int panel, int rows, const panel_f32 *sums, target_t y) {
    int left = y.width - panel * PANEL;
    if (y.how == GATE) {
        left = y.width - panel * LANES;
        for (int row = 0; row < rows; row++) {
            f32x8 product = silu(sums[row].low) * sums[row].high;
            store_panel(y.rows + (size_t)row * y.width + panel * LANES,
                        (panel_f32){product, product}, left < LANES ? left : LANES);
        }
        return;
    }
    for (int row = 0; row < rows; row++) {
        float *to = y.rows + (size_t)row * y.width + panel * PANEL;
        panel_f32 result = sums[row];
        if (y.how == ADD) {
            panel_f32 before = {splat_f32(0.0f), splat_f32(0.0f)};
            memcpy(&before, to, (left < PANEL ? left : PANEL) * sizeof *to);
            result.low += before.low;
            result.high += before.high;
        }
        store_panel(to, result, left);
    }
}

/* Several panels at a time spread the work of finding adapters and rows, while they fit a cache. */
static int panels_at_once(int rows) {
    int count = SUMS_AT_ONCE / (rows > 0 ? rows : 1);
    return count < 1 ? 1 : count > 8 ? 8 : count;
}

/* Phase: a linear layer and its adapters over all tokens. */
static void multiply(worker_t *self, int layer, int group, const linear_t *linear, const float *x,
                     target_t y) {
    int rows = self->shared->step->tokens, count = panels_at_once(rows);
    EACH_TASK(self, (linear->panels + count - 1) / count, task) {
        int first = task * count;
        int panels = linear->panels - first < count ? linear->panels - first : count;
        for (int at = 0; at < panels; at++) {
            announce(self, layer, group, first + at, linear->panels);
            panel_sums(&self->shared->buffers, linear, first + at, x, rows,
                       self->sums + (size_t)at * rows);
        }
        expand(self, layer, group, first, panels, self->sums);
        for (int at = 0; at < panels; at++)
            settle(first + at, rows, self->sums + (size_t)at * rows, y);
    }
    meet(self, TIME_LINEARS);
}

/* Phase: y = norm(x), made ready for the products of `format`. */
static void normalise_rows(worker_t *self, const float *weight, int format) {
    const model_t *m = self->shared->model;
    const buffers_t *b = &self->shared->buffers;
    EACH_TASK(self, self->shared->step->tokens, row) {
        float *normed = b->normed + (size_t)row * m->hidden;
        normalise(b->hidden + (size_t)row * m->hidden, weight, m->hidden, m->epsilon, normed);
        prepare_row(b, format, normed, m->hidden, row);
    }
    meet(self, TIME_ELEMENTWISE);
}

/* Phase: rows of `x` made ready for the products of `format`. */
static void prepare_rows(worker_t *self, const float *x, int size, int format) {
    if (format == FORMAT_FP32 || format == FORMAT_BF16) return;
    EACH_TASK(self, self->shared->step->tokens, row)
        prepare_row(&self->shared->buffers, format, x + (size_t)row * size, size, row);
    meet(self, TIME_ELEMENTWISE);
}

static void rotate(float *head, const float *cosines, const float *sines, int size, float scale) {
    int half = size / 2;
    for (int at = 0; at < half; at++) {
        float first = head[at], second = head[at + half];
        head[at] = (first * cosines[at] - second * sines[at]) * scale;
        head[at + half] = (second * cosines[at + half] + first * sines[at + half]) * scale;
    }
}

static void write_key_and_value(const step_t *step, int layer, size_t head_start, int offset,
                                const float *key, const float *value, int head_dim) {
    size_t value_at = head_start + (size_t)offset * head_dim;
    for (int d = 0; d < head_dim; d++) {
        size_t key_at = head_start + (size_t)d * BLOCK_TOKENS + offset;
        if (step->is_kv_bf16) {
            ((uint16_t *)step->keys[layer])[key_at] = to_bf16(key[d]);
            ((uint16_t *)step->values[layer])[value_at + d] = to_bf16(value[d]);
        } else {
            ((float *)step->keys[layer])[key_at] = key[d];
            ((float *)step->values[layer])[value_at + d] = value[d];
        }
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

static int tiles_of(const model_t *m, int count) {
    return (count * (m->heads / m->kv_heads) + QUERY_TILE - 1) / QUERY_TILE;
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
    int inner = task - self->shared->task_start[chunk];
    int tiles = tiles_of(m, step->count[chunk]), group = m->heads / m->kv_heads;
    int kv_head = inner / tiles, first = inner % tiles * QUERY_TILE, size = m->head_dim;
    int rows = step->count[chunk] * group - first;
    rows = rows < QUERY_TILE ? rows : QUERY_TILE;
    const float *queries[QUERY_TILE];
    float *outputs[QUERY_TILE];
    int limits[QUERY_TILE];
    for (int row = 0; row < rows; row++) {
        int query = (first + row) / group, head = kv_head * group + (first + row) % group;
        size_t token = step->begin[chunk] + query;
        queries[row] = b->qkv + (token * (m->heads + 2 * m->kv_heads) + head) * size;
        outputs[row] = b->attended + (token * m->heads + head) * size;
        limits[row] = step->past[chunk] + query + 1;
    }
    const kv_layer kv = {step->keys[layer], step->values[layer], m->kv_heads, size};
    const int32_t *table = step->table + (size_t)chunk * step->table_width;
/* A function of its own for each number of rows and kind of cache. */
#define ATTEND(n, kind) attend_tile(&kv, kind, table, kv_head, queries, limits, n, outputs)
#define FOR_QUERIES(rows, kind)         \
    switch (rows) {                     \
        case 1: ATTEND(1, kind); break; \
        case 2: ATTEND(2, kind); break; \
        case 3: ATTEND(3, kind); break; \
        default: ATTEND(4, kind);       \
    }
    if (step->is_kv_bf16) FOR_QUERIES(rows, 1)
    else FOR_QUERIES(rows, 0)
}

static void attend_rows(worker_t *self, int layer) {
    const shared_t *shared = self->shared;
    EACH_TASK(self, shared->task_start[shared->step->chunks], task) attend_task(self, layer, task);
    meet(self, TIME_ATTENTION);
}

static void embed_rows(worker_t *self) {
    const model_t *m = self->shared->model;
    const step_t *step = self->shared->step;
    EACH_TASK(self, step->tokens, row) {
        float *to = self->shared->buffers.hidden + (size_t)row * m->hidden;
        size_t from = step->token[row] * m->hidden;
        if (m->embedding_format == FORMAT_FP32) {
            memcpy(to, (const float *)m->embedding + from, m->hidden * sizeof *to);
            continue;
        }
        for (int at = 0; at < m->hidden; at++) {
            uint32_t bits = (uint32_t)((const uint16_t *)m->embedding)[from + at] << 16;
            memcpy(to + at, &bits, sizeof bits);
        }
    }
    meet(self, TIME_ELEMENTWISE);
}

static void run_layer(worker_t *self, int number) {
    const model_t *m = self->shared->model;
    const layer_t *layer = &m->layer[number];
    const buffers_t *b = &self->shared->buffers;
    int queries = m->heads * m->head_dim, wide = m->intermediate;
    int qkv = queries + 2 * m->kv_heads * m->head_dim;
    normalise_rows(self, layer->input_norm, layer->qkv.format);
    shrink(self, number, GROUP_QKV, b->normed);
    multiply(self, number, GROUP_QKV, &layer->qkv, b->normed, (target_t){b->qkv, qkv, STORE});
    place_rows(self, number);
    attend_rows(self, number);
    prepare_rows(self, b->attended, queries, layer->output.format);
    shrink(self, number, GROUP_OUTPUT, b->attended);
    multiply(self, number, GROUP_OUTPUT, &layer->output, b->attended,
             (target_t){b->hidden, m->hidden, ADD});
    normalise_rows(self, layer->mlp_norm, layer->gate_up.format);
    shrink(self, number, GROUP_GATE_UP, b->normed);
    multiply(self, number, GROUP_GATE_UP, &layer->gate_up, b->normed,
             (target_t){b->wide, wide, GATE});
    prepare_rows(self, b->wide, wide, layer->down.format);
    shrink(self, number, GROUP_DOWN, b->wide);
    multiply(self, number, GROUP_DOWN, &layer->down, b->wide,
             (target_t){b->hidden, m->hidden, ADD});
}

static void run_head(worker_t *self) {
    const model_t *m = self->shared->model;
    const step_t *step = self->shared->step;
    const buffers_t *b = &self->shared->buffers;
    EACH_TASK(self, step->sampled, row) {
        float *normed = b->normed + (size_t)row * m->hidden;
        normalise(b->hidden + (size_t)step->sample[row] * m->hidden, m->norm, m->hidden, m->epsilon,
                  normed);
        prepare_row(b, m->head.format, normed, m->hidden, row);
    }
    meet(self, TIME_ELEMENTWISE);
    EACH_TASK(self, m->head.panels, panel) {
        panel_sums(b, &m->head, panel, b->normed, step->sampled, self->sums);
        for (int row = 0; row < step->sampled; row++)
            store_panel(step->logits + (size_t)row * m->vocabulary + panel * PANEL, self->sums[row],
                        m->vocabulary - panel * PANEL);
    }
    meet(self, TIME_HEAD);
}

static void run(shared_t *shared, worker_t self) {
    embed_rows(&self);
    for (int layer = 0; layer < shared->model->layers; layer++) run_layer(&self, layer);
    if (shared->step->sampled) run_head(&self);
}

/* --- memory ---------------------------------------------------------------------------------- */

#define PHASES_A_LAYER 16 /* 14 are in use */

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

/* Lays the step's memory out; returns how much it is. */
static size_t lay_out(const model_t *m, const step_t *step, shared_t *shared,
                      panel_f32 **sums) {
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
    b->q16 = cut(&arena, rows * b->stride * sizeof(int16_t));
    b->scale16 = cut(&arena, rows * sizeof(float));
    b->q8 = cut(&arena, rows * b->stride);
    b->scale8 = cut(&arena, rows * b->blocks * sizeof(float));
    b->sum8 = cut(&arena, rows * b->blocks * sizeof(int32_t));
    *sums = cut(&arena, step->threads * sums_of_a_thread(step) * sizeof(panel_f32));
    shared->taken = cut(&arena, (PHASES_A_LAYER * m->layers + 8) * sizeof(atomic_int));
    shared->task_start = cut(&arena, (step->chunks + 1) * sizeof(int));
    return arena.used;
}

/* How much `workspace` a step needs; only the step's counts, adapters and threads are read. */
int64_t lccc_workspace_bytes(const model_t *model, const step_t *step) {
    shared_t shared;
    step_t asked = *step;
    panel_f32 *sums;
    asked.workspace = NULL;
    return (int64_t)lay_out(model, &asked, &shared, &sums);
}

/* Computes a step: logits of the sampled tokens, keys and values of all. */
void lccc_forward(const model_t *model, const step_t *step) {
    shared_t shared = {.model = model, .step = step};
    panel_f32 *sums;
    lay_out(model, step, &shared, &sums);
    memset(shared.taken, 0, (PHASES_A_LAYER * model->layers + 8) * sizeof(atomic_int));
    atomic_init(&shared.arrived, 0);
    atomic_init(&shared.round, 0);
    shared.task_start[0] = 0;
    for (int chunk = 0; chunk < step->chunks; chunk++)
        shared.task_start[chunk + 1] =
            shared.task_start[chunk] + model->kv_heads * tiles_of(model, step->count[chunk]);
#pragma omp parallel num_threads(step->threads)
    {
        int thread = omp_get_thread_num();
        run(&shared, (worker_t){.shared = &shared,
                                .thread = thread,
                                .threads = omp_get_num_threads(),
                                .since = now(),
                                .sums = sums + thread * sums_of_a_thread(step)});
    }
}

/* y = linear(x) for rows of x, on this thread: what the tests use.
 * Returns 0, or 1 where memory ran out. */
int32_t lccc_multiply(const linear_t *linear, const float *x, int32_t rows, float *y) {
    buffers_t b = {.stride = padded(linear->inputs, NF4_BLOCK)};
    b.blocks = b.stride / NF4_BLOCK;
    set_nf4(&b);
    size_t all = rows;
    b.q16 = malloc(all * b.stride * sizeof(int16_t));
    b.q8 = malloc(all * b.stride);
    b.scale16 = malloc(all * sizeof(float));
    b.scale8 = malloc(all * b.blocks * sizeof(float));
    b.sum8 = malloc(all * b.blocks * sizeof(int32_t));
    panel_f32 *sums = aligned_alloc(64, all * sizeof(panel_f32));
    int is_short = !b.q16 || !b.q8 || !b.scale16 || !b.scale8 || !b.sum8 || !sums;
    if (!is_short) {
        for (int row = 0; row < rows; row++)
            prepare_row(&b, linear->format, x + (size_t)row * linear->inputs, linear->inputs, row);
        for (int panel = 0; panel < linear->panels; panel++) {
            panel_sums(&b, linear, panel, x, rows, sums);
            for (int row = 0; row < rows; row++)
                store_panel(y + (size_t)row * linear->outputs + panel * PANEL, sums[row],
                            linear->outputs - panel * PANEL);
        }
    }
    free(b.q16), free(b.q8), free(b.scale16), free(b.scale8), free(b.sum8), free(sums);
    return is_short;
}
