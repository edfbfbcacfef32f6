/* The adapters' part of a linear layer, each applied to its own rows: A before, B within a panel. */
#ifndef LCCC_FACTORS_H
#define LCCC_FACTORS_H

#include "products.h"
#include "team.h"

#define SHRINK_ROWS 24 /* rows of an adapter in one task */

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

static size_t bytes_of(int format) {
    return format == FORMAT_FP32 ? 4 : format == FORMAT_BF16 ? 2 : 1;
}

static int inputs_of(const model_t *m, int group) {
    if (group == GROUP_OUTPUT) return m->heads * m->head_dim;
    return group == GROUP_DOWN ? m->intermediate : m->hidden;
}

static void scale_sums(const float *scales, int rows, panel_f32 *sums) {
    f32x8 low = load_f32(scales), high = load_f32(scales + LANES);
    for (int row = 0; row < rows; row++) sums[row].low *= low, sums[row].high *= high;
}

/* One panel of A for up to TILE rows. The inputs are cut into quarters, each with a sum of its own,
 * so that a few rows need not wait for one long sum; many rows take one quarter after the other. */
static void shrink_rows(const char *weights, int format, int inputs, const float *const *rows,
                        int count, panel_f32 *sums) {
    int cuts = inputs % MOST_STREAMS ? 1 : MOST_STREAMS, part = inputs / cuts;
    int streams = cuts == 1 ? 1 : streams_of(count);
    size_t stretch = (size_t)part * PANEL * bytes_of(format);
    panel_f32 found[MOST_STREAMS * TILE];
    for (int cut = 0; cut < cuts; cut += streams) {
        const float *from[TILE];
        for (int row = 0; row < count; row++) from[row] = rows[row] + cut * part;
        floats_t all = {.weights = weights + cut * stretch, .stretch = stretch, .inputs = part,
                        .shift = part, .low = from, .apart = TILE};
        multiply_floats(all, format, PIECES, streams, count, found + cut * TILE);
    }
    for (int row = 0; row < count; row++) {
        const panel_f32 *own = found + row;
        sums[row] = own[0];
        if (cuts == 1) continue;
        sums[row].low = (own[0].low + own[TILE].low) + (own[2 * TILE].low + own[3 * TILE].low);
        sums[row].high = (own[0].high + own[TILE].high) + (own[2 * TILE].high + own[3 * TILE].high);
    }
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
            shrink_rows(weights, adapter->format, inputs, rows, count, sums);
            if (factors->scales) scale_sums(factors->scales + panel * PANEL, count, sums);
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
        int rank = adapter->rank;
        size_t stretch = (size_t)rank * PANEL * bytes_of(adapter->format);
        int end = step->adapter_start[number + 1];
        for (int at = step->adapter_start[number], tile; at < end; at += tile) {
            tile = tile_of(end - at);
            const float *shrunk[TILE];
            for (int row = 0; row < tile; row++)
                shrunk[row] = b->shrunk + (size_t)step->adapter_row[at + row] * b->shrunk_stride;
            for (int panel = first, streams; panel < first + count; panel += streams) {
                /* The halves of a panel may belong to two projections, which read their own part
                 * of what shrink has left. */
                int part = part_at(group, parts, panel * PANEL);
                int next = part_at(group, parts, panel * PANEL + LANES);
                streams = streams_of(tile);
                int last = (panel + streams) * PANEL - LANES;
                if (panel + streams > first + count || (part != next && group != GROUP_GATE_UP) ||
                    part_at(group, parts, last) != next)
                    streams = 1;
                const float *low[TILE], *high[TILE];
                for (int row = 0; row < tile; row++) {
                    low[row] = shrunk[row] + part * rank;
                    high[row] = shrunk[row] + next * rank;
                }
                floats_t all = {.weights = weights + panel * stretch, .stretch = stretch,
                                .inputs = rank, .low = low, .high = high, .apart = step->tokens,
                                .rows = step->adapter_row + at};
                multiply_floats(all, adapter->format, part == next ? ADDED : ADDED_HALVES, streams,
                                tile, sums + (size_t)(panel - first) * step->tokens);
            }
        }
    }
}

#endif
