// One streamed reply: its text as it comes, and how fast it came.

import { stream } from "./api.js";

// A reply that comes in less is read in one piece or two, and how quick it was is not seen between.
const SHORTEST_MS = 50;

/**
 * Ask `model` and call `onChange(reply)` as the reply grows; resolves when it has ended.
 * A stopped reply keeps what it has; a failed one also says why, in `error`.
 */
export async function generate(reply, messages, sampling, signal, onChange) {
  const began = performance.now();
  const body = { model: reply.model, messages, stream: true, stream_options: { include_usage: true }, ...sampling };
  let first = 0;
  try {
    for await (const chunk of stream("/v1/chat/completions", body, signal)) {
      const delta = chunk.choices[0]?.delta;
      if (delta?.content || delta?.reasoning_content) {
        first ||= performance.now();
        reply.content += delta.content ?? "";
        if (delta.reasoning_content) reply.reasoning = (reply.reasoning ?? "") + delta.reasoning_content;
        onChange(reply);
      }
      if (chunk.choices[0]?.finish_reason) reply.finish = chunk.choices[0].finish_reason;
      if (chunk.usage) reply.stats = stats(chunk.usage, began, first);
    }
  } catch (error) {
    if (error.name === "AbortError") reply.finish = "stopped";
    else reply.error = error.message;
  }
  onChange(reply);
}

function stats(usage, began, first) {
  const end = performance.now();
  const tokens = usage.completion_tokens;
  const isSeen = first && tokens > 1 && end - first >= SHORTEST_MS;
  return {
    ttft_ms: Math.round((first || end) - began),
    tokens_per_s: (1000 * (isSeen ? tokens - 1 : tokens)) / (end - (isSeen ? first : began)) || null,
    prompt_tokens: usage.prompt_tokens,
    cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    completion_tokens: tokens,
  };
}
