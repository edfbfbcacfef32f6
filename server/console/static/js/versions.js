// Replies to the same question by the same model, one of which is shown: `earlier` and `later` hold
// the others, in the order in which they were written.

/** A reply to be written by the model of `reply`, which it keeps as an earlier one if that says anything. */
export function anew(reply) {
  const all = [...(reply.earlier ?? []), alone(reply), ...(reply.later ?? [])].filter((each) => each.content);
  return { model: reply.model, content: "", ...(all.length ? { earlier: all } : {}) };
}

/** The one before `reply` (-1) or after it (1), which holds the others; `reply` where there is none. */
export function neighbour(reply, direction) {
  const all = [...(reply.earlier ?? []), alone(reply), ...(reply.later ?? [])];
  const at = (reply.earlier?.length ?? 0) + direction;
  return all[at] ? { ...all[at], earlier: all.slice(0, at), later: all.slice(at + 1) } : reply;
}

function alone({ earlier, later, ...reply }) {
  return reply;
}
