/* How the threads of a forward pass work together: phases, tasks, a barrier. */
#ifndef LCCC_TEAM_H
#define LCCC_TEAM_H

#include <sched.h>
#include <time.h>

#include "step.h"

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

#endif
