// What every Node client is asked.

import { z } from "zod";

export const QUESTION = "今天下雨了";
export const Weather = z.object({ sky: z.enum(["晴", "雨", "雪"]), umbrella: z.boolean() });
export const City = z.object({ city: z.string() });
export const weather = ({ city }) => `晴，25 度 (${city})`;

/** Which error a request ends with, by its class and the classes above, and its status. */
export async function raised(ask) {
  try {
    await ask();
  } catch (error) {
    const types = [];
    for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) {
      types.push(kind.name);
    }
    return { types, status: error.status ?? error.statusCode ?? null };
  }
  return { types: [], status: null };
}

export async function collected(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
