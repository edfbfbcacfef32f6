// Ask a server through other projects' Node clients, and tell what each of them gave.
//
// stdin is JSON, {"stage", "key", "pocket"}: two addresses and the key of the first. stdout is
// JSON: for each client and check {"gave": value} or {"raised": stack}.

import { json } from "node:stream/consumers";
import { checks as ai_sdk } from "./ai_sdk_checks.mjs";
import { checks as openai } from "./openai_checks.mjs";

async function outcome(check) {
  try {
    return { gave: (await check()) ?? null };
  } catch (error) {
    return { raised: String(error?.stack ?? error) };
  }
}

const servers = await json(process.stdin);
const answers = {};
for (const [client, checks] of Object.entries({ openai, ai_sdk })) {
  answers[client] = {};
  for (const [name, check] of Object.entries(checks)) {
    answers[client][name] = await outcome(() => check(servers));
  }
}
console.log(JSON.stringify(answers));
