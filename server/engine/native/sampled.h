/* The end of the last layer: once its keys and values are in the cache, only what is sampled is
 * computed further. The step becomes one of those rows alone, each a chunk of one token. */
#ifndef LCCC_SAMPLED_H
#define LCCC_SAMPLED_H

#include "heads.h"

/* Rows of `width` floats move to where they lie when the others are left out. */
static void close_ranks(float *rows, size_t width, const step_t *step) {
    for (int row = 0; row < step->sampled; row++)
        if (step->sample[row] != row)
            memcpy(rows + row * width, rows + step->sample[row] * width, width * sizeof *rows);
}

static void cut_chunks(const step_t *step, const sampled_t *own) {
    for (int row = 0, chunk = 0; row < step->sampled; row++) {
        int token = (int)step->sample[row];
        while (token >= step->begin[chunk] + step->count[chunk]) chunk++;
        own->begin[row] = row, own->count[row] = 1, own->sample[row] = row;
        own->past[row] = step->past[chunk] + token - step->begin[chunk];
        memcpy(own->table + (size_t)row * step->table_width,
               step->table + (size_t)chunk * step->table_width,
               step->table_width * sizeof *own->table);
    }
}

/* Leaves each adapter those of its rows that are sampled. */
static void cut_adapters(const step_t *step, const sampled_t *own) {
    int left = 0;
    for (int token = 0; token < step->tokens; token++) own->row_of[token] = -1;
    for (int row = 0; row < step->sampled; row++) own->row_of[step->sample[row]] = row;
    for (int number = 0; number < step->adapters; number++) {
        own->adapter_start[number] = left;
        for (int at = step->adapter_start[number]; at < step->adapter_start[number + 1]; at++) {
            int row = own->row_of[step->adapter_row[at]];
            if (row >= 0) own->adapter_row[left++] = row;
        }
    }
    own->adapter_start[step->adapters] = left;
}

/* Phase: the step becomes one of the sampled rows, whose hidden states and queries it keeps. */
static void keep_sampled(worker_t *self) {
    shared_t *shared = self->shared;
    const step_t *step = shared->step;
    const model_t *m = shared->model;
    const sampled_t *own = &shared->sampled;
    EACH_TASK(self, 1, task) {
        close_ranks(shared->buffers.hidden, m->hidden, step);
        close_ranks(shared->buffers.qkv, (size_t)(m->heads + 2 * m->kv_heads) * m->head_dim, step);
        cut_chunks(step, own);
        cut_adapters(step, own);
        shared->last = *step;
        shared->last.tokens = shared->last.chunks = step->sampled;
        shared->last.begin = own->begin, shared->last.count = own->count;
        shared->last.past = own->past, shared->last.table = own->table;
        shared->last.sample = own->sample;
        shared->last.adapter_start = own->adapter_start;
        shared->last.adapter_row = own->adapter_row;
        shared->step = &shared->last;
        plan_attention(shared);
    }
    meet(self, TIME_ELEMENTWISE);
}

#endif
