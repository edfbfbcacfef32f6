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

/* Where the tasks of `owner` begin among `tasks`: every thread has a stretch of its own. */
static int own_begin(const worker_t *self, int tasks, int owner) {
    return (int)((long long)tasks * owner / self->threads);
}

/* Tasks from `first` on that this thread has taken; `helped`: how many others it has looked at. */
typedef struct { int tasks, grain, first, end, helped; } claim_t;

static claim_t claim_of(const worker_t *self, int tasks) {
    int grain = tasks / (self->threads * 12);
    return (claim_t){.tasks = tasks, .grain = grain < 1 ? 1 : grain > 16 ? 16 : grain};
}

/* Takes the next few tasks of the own stretch, then of the others'; whether there were any left.
 * A thread that goes through memory in order can ask for it early. */
static int claim(worker_t *self, claim_t *from) {
    for (; from->helped < self->threads; from->helped++) {
        int owner = (self->thread + from->helped) % self->threads;
        int begin = own_begin(self, from->tasks, owner);
        int count = own_begin(self, from->tasks, owner + 1) - begin;
        atomic_int *taken = &self->shared->taken[(self->phase * self->threads + owner) * LINE];
        if (atomic_load(taken) >= count) continue; /* looking on disturbs nobody */
        int first = atomic_fetch_add(taken, from->grain);
        if (first >= count) continue;
        from->first = begin + first;
        from->end = begin + (first + from->grain < count ? first + from->grain : count);
        return 1;
    }
    return 0;
}

#define EACH_TASK(self, tasks, task)                                     \
    for (claim_t claimed = claim_of(self, tasks); claim(self, &claimed);) \
        for (int task = claimed.first; task < claimed.end; task++)

#endif
