// The official client.

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { City, QUESTION, Weather, collected, raised, weather } from "./asked.mjs";

const messages = [{ role: "user", content: QUESTION }];
const onStage = ({ stage, key }) => new OpenAI({ baseURL: stage, apiKey: key, maxRetries: 0 });
const onPocket = ({ pocket }) => new OpenAI({ baseURL: pocket, apiKey: "none", maxRetries: 0 });
const tool = () => zodFunction({ name: "weather", parameters: City, function: weather });

export const checks = {
  async chat(servers) {
    const reply = await onStage(servers).chat.completions.create({ model: "poet", messages });
    const { finish_reason, message } = reply.choices[0];
    return {
      text: message.content,
      finish: finish_reason,
      tokens: reply.usage.completion_tokens,
      model: reply.model,
      hasRequestId: Boolean(reply._request_id),
    };
  },

  async stream(servers) {
    const chunks = await collected(
      await onStage(servers).chat.completions.create({
        model: "poet",
        messages,
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    const choices = chunks.flatMap((chunk) => chunk.choices);
    return {
      pieces: choices.map((choice) => choice.delta.content).filter(Boolean),
      finish: choices.at(-1).finish_reason,
      tokens: chunks.at(-1).usage.completion_tokens,
    };
  },

  async stream_helper(servers) {
    const stream = onStage(servers).chat.completions.stream({ model: "poet", messages });
    return (await stream.finalChatCompletion()).choices[0].message.content;
  },

  async structured(servers) {
    const reply = await onPocket(servers).chat.completions.parse({
      model: "cat",
      messages,
      seed: 1,
      response_format: zodResponseFormat(Weather, "weather"),
    });
    return reply.choices[0].message.parsed;
  },

  async models(servers) {
    const client = onStage(servers);
    const listed = await collected(client.models.list());
    const one = await client.models.retrieve("poet");
    return { listed: listed.map((model) => model.id), one: one.id };
  },

  async text(servers) {
    const asked = { model: "poet", prompt: QUESTION };
    return (await onStage(servers).completions.create(asked)).choices[0].text;
  },

  async errors(servers) {
    const client = onStage(servers);
    const ask = (model, more = {}) =>
      client.chat.completions.create({ model, messages, ...more });
    const stranger = onStage({ ...servers, key: "wrong" });
    return {
      "unknown model": await raised(() => ask("nobody")),
      "out of bounds": await raised(() => ask("poet", { temperature: 3 })),
      "too long": await raised(() => ask("long")),
      full: await raised(() => ask("busy")),
      "wrong key": await raised(() => stranger.models.list()),
      "our fault": await raised(() => ask("broken")),
      "broken stream": await raised(async () => collected(await ask("broken", { stream: true }))),
    };
  },

  async tools_loop(servers) {
    const runner = onStage(servers).chat.completions.runTools({
      model: "caller",
      messages,
      tools: [tool()],
    });
    const answer = await runner.finalContent();
    const [calling] = runner.allChatCompletions();
    return {
      finish: calling.choices[0].finish_reason,
      calls: calling.choices[0].message.tool_calls.map((call) => [
        call.function.name,
        JSON.parse(call.function.arguments),
      ]),
      answer,
    };
  },

  async tools_stream(servers) {
    const stream = onStage(servers).chat.completions.stream({
      model: "caller",
      messages,
      tools: [tool()],
    });
    const { message } = (await stream.finalChatCompletion()).choices[0];
    return message.tool_calls.map((call) => [call.function.name, call.function.parsed_arguments]);
  },

  async tools_forced(servers) {
    const reply = await onPocket(servers).chat.completions.parse({
      model: "cat",
      messages,
      seed: 1,
      max_tokens: 200,
      tools: [zodFunction({ name: "weather", parameters: Weather })],
      tool_choice: "required",
      parallel_tool_calls: false,
    });
    return reply.choices[0].message.tool_calls[0].function.parsed_arguments;
  },

  async responses(servers) {
    const client = onStage(servers);
    const whole = await client.responses.create({ model: "poet", input: QUESTION });
    const stream = client.responses.stream({ model: "poet", input: QUESTION });
    const events = await collected(stream);
    return {
      whole: whole.output_text,
      stream: (await stream.finalResponse()).output_text,
      ends: [events.at(0).type, events.at(-1).type],
    };
  },

  async responses_structured(servers) {
    const reply = await onPocket(servers).responses.parse({
      model: "cat",
      input: QUESTION,
      text: { format: zodTextFormat(Weather, "weather") },
    });
    return reply.output_parsed;
  },
};
