/* Weights from a checkpoint's rows into the panels of gemm.h, quantised on the way. */
#include <math.h>
#include <stdlib.h>

#include "gemm.h"

/* One row as floats, with zeros behind it. */
static void read_row(const void *weight, int is_bf16, size_t row, int inputs, int stride, float *to) {
    if (is_bf16) {
        const uint16_t *from = (const uint16_t *)weight + row * inputs;
        for (int at = 0; at < inputs; at++) {
            uint32_t bits = (uint32_t)from[at] << 16;
            memcpy(to + at, &bits, sizeof bits);
        }
    } else {
        memcpy(to, (const float *)weight + row * inputs, inputs * sizeof *to);
    }
    memset(to + inputs, 0, (stride - inputs) * sizeof *to);
}

/* Symmetric, one scale a row, [-127, 127]: [inputs / INT8_GROUP][16][INT8_GROUP]. */
static void pack_int8(const float *rows, int stride, int inputs, int8_t *codes, float *scales) {
    int all = padded(inputs, INT8_UNIT);
    for (int lane = 0; lane < PANEL; lane++) {
        const float *row = rows + (size_t)lane * stride;
        float most = largest(row, inputs), factor = most >= LEAST ? 127.0f / most : 0.0f;
        scales[lane] = most / 127.0f;
        for (int at = 0; at < all; at++) {
            float value = row[at] * factor;
            int code = value == value ? (int)lrintf(value) : 0;
            size_t place = (size_t)at / INT8_GROUP * INT8_GROUP * PANEL + INT8_GROUP * lane;
            codes[place + at % INT8_GROUP] = (int8_t)(code + INT8_OFFSET);
        }
    }
}

/* The code whose value is nearest; between two, the lower: as bitsandbytes has it. */
static int nf4_code(float share, const float *middles) {
    int code = 0;
    for (int middle = 0; middle < 15; middle++) code += share > middles[middle];
    return code;
}

static void pack_nf4(const float *rows, int stride, uint8_t *panel) {
    float middles[15];
    for (int at = 0; at < 15; at++) middles[at] = (NF4_VALUES[at] + NF4_VALUES[at + 1]) / 2;
    for (int start = 0; start < stride; start += NF4_BLOCK, panel += NF4_BYTES) {
        uint8_t codes[PANEL][NF4_BLOCK];
        float scales[PANEL];
        for (int lane = 0; lane < PANEL; lane++) {
            const float *from = rows + (size_t)lane * stride + start;
            float most = largest(from, NF4_BLOCK);
            scales[lane] = most / NF4_UNIT;
            for (int at = 0; at < NF4_BLOCK; at++)
                codes[lane][at] = nf4_code(most >= LEAST ? from[at] / most : 0.0f, middles);
        }
        memcpy(panel, scales, sizeof scales);
        uint8_t *to = panel + sizeof scales;
        for (int at = 0; at < NF4_BLOCK; at += 4)
            for (int lane = 0; lane < LANES; lane++)
                for (int input = at; input < at + 4; input++)
                    *to++ = codes[lane][input] | codes[lane + LANES][input] << 4;
    }
}

static void pack_int7(const float *rows, int stride, uint8_t *panel) {
    for (int start = 0; start < stride; start += NF4_BLOCK, panel += INT7_BYTES) {
        float scales[PANEL];
        uint8_t *to = panel + sizeof scales;
        for (int lane = 0; lane < PANEL; lane++) {
            const float *from = rows + (size_t)lane * stride + start;
            float most = largest(from, NF4_BLOCK), factor = most >= LEAST ? INT7_MOST / most : 0.0f;
            scales[lane] = most / INT7_MOST;
            for (int at = 0; at < NF4_BLOCK; at++) {
                float value = from[at] * factor;
                size_t place = (size_t)at / 4 * 4 * PANEL + 4 * lane + at % 4;
                to[place] = (uint8_t)((value == value ? lrintf(value) : 0) + INT7_MOST);
            }
        }
        memcpy(panel, scales, sizeof scales);
    }
}

static void pack_floats(const float *rows, int stride, int inputs, int is_bf16, void *to) {
    for (int at = 0; at < inputs; at++)
        for (int lane = 0; lane < PANEL; lane++) {
            float value = rows[(size_t)lane * stride + at];
            if (is_bf16) ((uint16_t *)to)[(size_t)at * PANEL + lane] = to_bf16(value);
            else ((float *)to)[(size_t)at * PANEL + lane] = value;
        }
}

/* `to` and `scales` are those of this panel. */
static void pack_panel(int format, const float *rows, int stride, int inputs, void *to,
                       float *scales) {
    if (format == FORMAT_INT8) pack_int8(rows, stride, inputs, to, scales);
    else if (format == FORMAT_NF4) pack_nf4(rows, stride, to);
    else if (format == FORMAT_INT7) pack_int7(rows, stride, to);
    else pack_floats(rows, stride, inputs, format == FORMAT_BF16, to);
}

/* `weight`: [outputs][inputs] fp32 or bf16. `codes` and (for int8) `scales` are as
 * lccc_packed_bytes says. Returns 0, or 1 where memory ran out. */
int32_t lccc_pack(int32_t format, const void *weight, int32_t is_bf16, int32_t outputs,
                  int32_t inputs, void *codes, float *scales, int32_t threads) {
    int stride = padded(inputs, NF4_BLOCK), panels = padded(outputs, PANEL) / PANEL, is_short = 0;
    size_t bytes = panel_bytes(format, inputs);
#pragma omp parallel num_threads(threads)
    {
        float *rows = malloc((size_t)PANEL * stride * sizeof *rows);
        if (!rows) {
#pragma omp atomic write
            is_short = 1;
        }
#pragma omp for schedule(dynamic, 4)
        for (int panel = 0; panel < panels; panel++) {
            if (!rows) continue;
            for (int lane = 0; lane < PANEL; lane++) {
                int row = panel * PANEL + lane;
                if (row < outputs)
                    read_row(weight, is_bf16, row, inputs, stride, rows + (size_t)lane * stride);
                else
                    memset(rows + (size_t)lane * stride, 0, stride * sizeof *rows);
            }
            pack_panel(format, rows, stride, inputs, (char *)codes + panel * bytes,
                       scales ? scales + panel * PANEL : NULL);
        }
        free(rows);
    }
    return is_short;
}

/* How large the codes of a weight are. */
int64_t lccc_packed_bytes(int32_t format, int32_t outputs, int32_t inputs) {
    return (int64_t)(padded(outputs, PANEL) / PANEL * panel_bytes(format, inputs));
}
