/* Products of tiles of bytes: sixteen rows of 64 inputs with 64 inputs of sixteen outputs (AMX).
 *
 * A tile of inputs is always read with sixteen rows, also where it has fewer: those behind them are
 * whatever lies there, and nobody reads their sums. So buffers of inputs end TILE_SLACK bytes later
 * than they seem to need.
 *
 * Linux has a process ask before it may use the tiles' registers.
 * Source: Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3.
 */
#ifndef LCCC_TILES_H
#define LCCC_TILES_H

#include "quantise.h"

#define TILE_SLACK (TILE_Q8 * NF4_BLOCK)

#if defined(LCCC_WIDE) && defined(__AMX_INT8__) && defined(__AMX_TILE__) && defined(__linux__)
#define LCCC_TILES 1
#include <sys/syscall.h>
#include <unistd.h>

#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18              /* the feature's number */
#define LEAST_TILE_ROWS 8         /* of products in blocks: fewer are quicker without */

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config_t;

/* Whether this process may use them, and should: 1, 0, or -1 until somebody asks. */
static atomic_int tiles_are_used = -1;

static int has_tiles(void) { return atomic_load_explicit(&tiles_are_used, memory_order_relaxed) == 1; }

/* GCC's intrinsics do not say that they read memory: what has been written is there from here on. */
#define WRITTEN() __asm__ volatile("" ::: "memory")

/* Readies the calling thread. Has to come before products, and end_tiles after them. */
static void begin_tiles(void) {
    if (atomic_load(&tiles_are_used) < 0)
        atomic_store(&tiles_are_used, syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0);
    if (!has_tiles()) return;
    tile_config_t config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) config.row_bytes[tile] = 64, config.rows[tile] = 16;
    WRITTEN();
    _tile_loadconfig(&config);
}

static void end_tiles(void) {
    if (has_tiles()) _tile_release();
}

/* Sixteen rows of 16-bit inputs with one panel, see tile_int8 in wide.h. */
INLINE void multiply_panel(const uint8_t *panel, int blocks, const int8_t *planes, size_t step,
                           size_t ahead, __m512i *sums) {
    __m512i high[TILE_Q8], low[TILE_Q8];
    WRITTEN();
    _tile_zero(0);
    _tile_zero(1);
    for (int block = 0; block < blocks; block++, panel += PANEL * NF4_BLOCK, planes += 2 * step) {
        if (ahead) fetch(panel + ahead, PANEL * NF4_BLOCK);
        _tile_loadd(4, panel, 64);
        _tile_loadd(2, planes, NF4_BLOCK);
        _tile_loadd(3, planes + step, NF4_BLOCK);
        _tile_dpbsud(0, 2, 4);
        _tile_dpbsud(1, 3, 4);
    }
    _tile_stored(0, high, 64);
    _tile_stored(1, low, 64);
    for (int row = 0; row < TILE_Q8; row++)
        sums[row] = _mm512_add_epi32(_mm512_slli_epi32(high[row], 7), low[row]);
}

/* One block of quantised inputs, [16][64], with its numbers, [16][16][4] unsigned. */
INLINE void multiply_block(const uint8_t *numbers, const int8_t *inputs, __m512i *sums) {
    WRITTEN();
    _tile_zero(0);
    _tile_loadd(4, numbers, 64);
    _tile_loadd(2, inputs, NF4_BLOCK);
    _tile_dpbsud(0, 2, 4);
    _tile_stored(0, sums, 64);
}
#endif

#ifndef LCCC_TILES
static void begin_tiles(void) {}
static void end_tiles(void) {}
#endif

#endif
