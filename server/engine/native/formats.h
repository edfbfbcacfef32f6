/* What weights can be stored as, and how large a panel (sixteen outputs) of them is. */
#ifndef LCCC_FORMATS_H
#define LCCC_FORMATS_H

#include <stddef.h>

#include "lanes.h"

/* INT7: whole numbers of seven bits. NF4 and INT7 have one scale for each block of inputs. */
enum { FORMAT_FP32, FORMAT_BF16, FORMAT_INT8, FORMAT_NF4, FORMAT_INT7 };

#define PANEL 16     /* outputs of a panel: two vectors */
#define NF4_BLOCK 64 /* inputs of a block */
#define INT7_BYTES (PANEL * 4 + PANEL * NF4_BLOCK)    /* of a block: sixteen scales, numbers */
#define NF4_BYTES (PANEL * 4 + PANEL * NF4_BLOCK / 2) /* of a block: sixteen scales, codes */

/* int8: how many inputs of an output lie together, what a number is stored too large by, and what
 * the inputs are filled up to. */
#ifdef LCCC_WIDE
enum { INT8_GROUP = 4, INT8_OFFSET = 128, INT8_UNIT = NF4_BLOCK };
#else
enum { INT8_GROUP = 2, INT8_OFFSET = 0, INT8_UNIT = 2 };
#endif

/* QLoRA, arXiv 2305.14314, appendix E. */
static const float NF4_VALUES[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

static inline int padded(int count, int unit) { return (count + unit - 1) / unit * unit; }

static inline int has_blocks(int format) { return format == FORMAT_NF4 || format == FORMAT_INT7; }

static inline size_t panel_bytes(int format, int inputs) {
    size_t blocks = padded(inputs, NF4_BLOCK) / NF4_BLOCK;
    if (format == FORMAT_NF4) return blocks * NF4_BYTES;
    if (format == FORMAT_INT7) return blocks * INT7_BYTES;
    if (format == FORMAT_INT8) return (size_t)padded(inputs, INT8_UNIT) * PANEL;
    return (size_t)inputs * PANEL * (format == FORMAT_FP32 ? 4 : 2);
}

#endif
