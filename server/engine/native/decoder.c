/* The forward pass of a dense Llama-family decoder over one step's tokens, on a CPU.
 *
 * All threads go through the same phases, with a barrier after each; within a phase each
 * has a stretch of the tasks, and helps the others then. What a task computes depends on nothing but its inputs, so neither the number
 * of threads nor the company in the batch changes a single bit of a row.
 */
#include <omp.h>
#include <stdlib.h>

#include "factors.h"
#include "sampled.h"
#include "workspace.h"

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

/* Puts a row's sums of one panel where they belong: y = sums, y += sums, or y = silu(gate) * up. */
INLINE void settle(int panel, panel_f32 sums, float *row, int width, int how) {
    if (how == GATE) {
        int left = width - panel * LANES;
        float *to = row + panel * LANES;
        f32x8 product = silu(sums.low) * sums.high;
        if (left >= LANES) store_f32(to, product);
        else store_panel(to, (panel_f32){product, product}, left);
        return;
    }
    int left = width - panel * PANEL;
    float *to = row + panel * PANEL;
    if (how == ADD) {
        panel_f32 before = {splat_f32(0.0f), splat_f32(0.0f)};
        if (left >= PANEL) memcpy(&before, to, sizeof before);
        else memcpy(&before, to, left * sizeof *to);
        sums.low += before.low;
        sums.high += before.high;
    }
    store_panel(to, sums, left);
}

/* sums: of `panels` panels from `first`, [panels][rows]. Row by row, whose columns lie together. */
static void settle_panels(int first, int panels, int rows, const panel_f32 *sums, target_t y) {
    for (int row = 0; row < rows; row++) {
        float *to = y.rows + (size_t)row * y.width;
        for (int at = 0; at < panels; at++)
            settle(first + at, sums[(size_t)at * rows + row], to, y.width, y.how);
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
        settle_panels(first, panels, rows, self->sums, y);
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
        prepare_row(b, format, normed, m->hidden, row, self->shared->step->tokens);
    }
    meet(self, TIME_ELEMENTWISE);
}

/* Phase: rows of `x` made ready for the products of `format`. */
static void prepare_rows(worker_t *self, const float *x, int size, int format) {
    if (format == FORMAT_FP32 || format == FORMAT_BF16) return;
    EACH_TASK(self, self->shared->step->tokens, row)
        prepare_row(&self->shared->buffers, format, x + (size_t)row * size, size, row,
                    self->shared->step->tokens);
    meet(self, TIME_ELEMENTWISE);
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

/* The first half of a layer: its keys and values are in the cache, its queries ready. */
static void begin_layer(worker_t *self, int number) {
    const model_t *m = self->shared->model;
    const layer_t *layer = &m->layer[number];
    const buffers_t *b = &self->shared->buffers;
    int qkv = (m->heads + 2 * m->kv_heads) * m->head_dim;
    normalise_rows(self, layer->input_norm, layer->qkv.format);
    shrink(self, number, GROUP_QKV, b->normed);
    multiply(self, number, GROUP_QKV, &layer->qkv, b->normed, (target_t){b->qkv, qkv, STORE});
    place_rows(self, number);
}

static void end_layer(worker_t *self, int number) {
    const model_t *m = self->shared->model;
    const layer_t *layer = &m->layer[number];
    const buffers_t *b = &self->shared->buffers;
    int queries = m->heads * m->head_dim, wide = m->intermediate;
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
        prepare_row(b, m->head.format, normed, m->hidden, row, step->sampled);
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
    int last = shared->model->layers - 1, sampled = shared->step->sampled;
    int is_cut = sampled < shared->step->tokens;
    embed_rows(&self);
    for (int layer = 0; layer < last; layer++) {
        begin_layer(&self, layer);
        end_layer(&self, layer);
    }
    begin_layer(&self, last);
    if (!sampled) return;
    if (is_cut) keep_sampled(&self);
    end_layer(&self, last);
    run_head(&self);
}

/* How much `workspace` a step needs; only the step's counts, adapters and threads are read. */
int64_t lccc_workspace_bytes(const model_t *model, const step_t *step) {
    shared_t shared;
    step_t asked = *step;
    asked.workspace = NULL;
    return (int64_t)lay_out(model, &asked, &shared);
}

/* Computes a step: logits of the sampled tokens, keys and values of all. */
void lccc_forward(const model_t *model, const step_t *step) {
    shared_t shared = {.model = model, .step = step};
    lay_out(model, step, &shared);
    memset(shared.taken, 0, counters_bytes(model, step));
    atomic_init(&shared.arrived, 0);
    atomic_init(&shared.round, 0);
    plan_attention(&shared);
#pragma omp parallel num_threads(step->threads)
    {
        int thread = omp_get_thread_num();
        begin_tiles();
        run(&shared, (worker_t){.shared = &shared,
                                .thread = thread,
                                .threads = omp_get_num_threads(),
                                .since = now(),
                                .sums = shared.sums + thread * sums_of_a_thread(step),
                                .queries = shared.queries + thread});
        end_tiles();
    }
}

/* y = linear(x) for rows of x, on this thread: what the tests use.
 * Returns 0, or 1 where memory ran out. */
int32_t lccc_multiply(const linear_t *linear, const float *x, int32_t rows, float *y) {
    buffers_t b = {.stride = padded(linear->inputs, NF4_BLOCK)};
    b.blocks = b.stride / NF4_BLOCK;
    set_nf4(&b);
    size_t all = rows;
    b.q16 = malloc(all * b.stride * sizeof(int16_t) + TILE_SLACK);
    b.q8 = malloc(all * b.stride + TILE_SLACK);
    b.scale16 = malloc(all * sizeof(float));
    b.scale8 = malloc(all * b.blocks * sizeof(float));
    b.start8 = malloc(all * b.blocks * sizeof(int32_t));
    panel_f32 *sums = aligned_alloc(64, all * sizeof(panel_f32));
    int is_short = !b.q16 || !b.q8 || !b.scale16 || !b.scale8 || !b.start8 || !sums;
    if (!is_short) {
        begin_tiles();
        for (int row = 0; row < rows; row++)
            prepare_row(&b, linear->format, x + (size_t)row * linear->inputs, linear->inputs, row,
                        rows);
        for (int panel = 0; panel < linear->panels; panel++) {
            panel_sums(&b, linear, panel, x, rows, sums);
            for (int row = 0; row < rows; row++)
                store_panel(y + (size_t)row * linear->outputs + panel * PANEL, sums[row],
                            linear->outputs - panel * PANEL);
        }
        end_tiles();
    }
    free(b.q16), free(b.q8), free(b.scale16), free(b.scale8), free(b.start8), free(sums);
    return is_short;
}

/* What the products are computed with: 0 any processor's instructions, 1 AVX2, 2 AVX-512 with VNNI,
 * 3 AMX as well. */
int32_t lccc_instructions(void) {
#ifdef LCCC_TILES
    begin_tiles();
    end_tiles();
    if (has_tiles()) return 3;
#endif
#if defined(LCCC_WIDE)
    return 2;
#elif defined(LCCC_AVX2)
    return 1;
#else
    return 0;
#endif
}

/* Leave AMX alone from now on, or (1) use it again where it may be used; between steps only. */
void lccc_use_tiles(int32_t wanted) {
#ifdef LCCC_TILES
    atomic_store(&tiles_are_used, wanted ? -1 : 0);
#else
    (void)wanted;
#endif
}
