// The Vercel AI SDK with its provider for servers like ours.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { City, QUESTION, Weather, collected, raised, weather } from "./asked.mjs";

const provider = (baseURL, apiKey) =>
  createOpenAICompatible({
    name: "lccc",
    baseURL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const onStage = ({ stage, key }, model) => ({
  model: provider(stage, key)(model),
  prompt: QUESTION,
  maxRetries: 0,
});
const onPocket = ({ pocket }) => ({
  model: provider(pocket, "none")("cat"),
  prompt: QUESTION,
  maxRetries: 0,
  seed: 1,
});
const tools = { weather: tool({ inputSchema: City, execute: weather }) };
const called = (calls) => calls.map((call) => [call.toolName, call.input]);

export const checks = {
  async chat(servers) {
    const reply = await generateText(onStage(servers, "poet"));
    return {
      text: reply.text,
      finish: reply.finishReason,
      tokens: reply.usage.outputTokens,
      model: reply.response.modelId,
    };
  },

  async stream(servers) {
    const reply = streamText(onStage(servers, "poet"));
    const pieces = await collected(reply.textStream);
    const [finish, usage] = await Promise.all([reply.finishReason, reply.usage]);
    return { pieces, finish, tokens: usage.outputTokens };
  },

  async structured(servers) {
    const asked = { ...onPocket(servers), output: Output.object({ schema: Weather }) };
    return (await generateText(asked)).output;
  },

  async structured_stream(servers) {
    const asked = { ...onPocket(servers), output: Output.object({ schema: Weather }) };
    return (await collected(streamText(asked).partialOutputStream)).at(-1);
  },

  async errors(servers) {
    const ask = (model, more = {}) => generateText({ ...onStage(servers, model), ...more });
    return {
      "unknown model": await raised(() => ask("nobody")),
      "out of bounds": await raised(() => ask("poet", { temperature: 3 })),
      "too long": await raised(() => ask("long")),
      full: await raised(() => ask("busy")),
      "wrong key": await raised(() =>
        generateText(onStage({ ...servers, key: "wrong" }, "poet")),
      ),
      "our fault": await raised(() => ask("broken")),
    };
  },

  async broken_stream(servers) {
    const failures = [];
    const asked = onStage(servers, "broken");
    const reply = streamText({ ...asked, onError: ({ error }) => failures.push(error.message) });
    return { pieces: await collected(reply.textStream), failures };
  },

  async thoughts(servers) {
    const reply = await generateText({
      ...onStage(servers, "thinker"),
      providerOptions: { lccc: { reasoningEffort: "low" } },
    });
    return { thoughts: reply.reasoningText, text: reply.text };
  },

  async tools_loop(servers) {
    const reply = await generateText({
      ...onStage(servers, "caller"),
      tools,
      stopWhen: stepCountIs(2),
    });
    const [calling] = reply.steps;
    return { finish: calling.finishReason, calls: called(calling.toolCalls), answer: reply.text };
  },

  async tools_stream(servers) {
    const reply = streamText({ ...onStage(servers, "caller"), tools, stopWhen: stepCountIs(2) });
    const pieces = await collected(reply.textStream);
    const [calling] = await reply.steps;
    return { calls: called(calling.toolCalls), answer: pieces.join("") };
  },

  async tools_forced(servers) {
    const reply = await generateText({
      ...onPocket(servers),
      maxOutputTokens: 200,
      tools: { weather: tool({ inputSchema: Weather }) },
      toolChoice: "required",
    });
    return reply.toolCalls[0].input;
  },
};
