// Chat and completions through the official SDK for Node.js, which parses streams and errors in its own way.
//
// usage: NODE_PATH=…/node_modules node openai_node.mjs URL [--api-key KEY] [--tools]
//
// --tools adds what needs a model whose template knows tools. Prints `ok NAME` for each check; exit code 1 if one fails.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

const OpenAI = createRequire(import.meta.url)("openai").default;

const { values, positionals } = parseArgs({
  options: { "api-key": { type: "string" }, tools: { type: "boolean", default: false } },
  allowPositionals: true,
});
if (positionals.length !== 1) {
  console.error("usage: openai_node.mjs URL [--api-key KEY] [--tools]");
  process.exit(2);
}
const root = positionals[0].replace(/\/+$/, "").replace(/\/v1$/, "");
const apiKey = values["api-key"] ?? "none";
const client = new OpenAI({ baseURL: `${root}/v1`, apiKey, maxRetries: 0, timeout: 600_000 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "Write two sentences about the sea." }];
const greedy = { model, messages, temperature: 0, max_tokens: 32 };

const checks = {
  async model_is_found() {
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async answer() {
    const answer = await client.chat.completions.create(greedy);
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.ok(answer.choices[0].message.content);
    assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
  },

  async stream() {
    const whole = await client.chat.completions.create(greedy);
    const stream = await client.chat.completions.create({
      ...greedy,
      stream: true,
      stream_options: { include_usage: true },
    });
    let content = "";
    let reason = null;
    let usage = null;
    for await (const chunk of stream) {
      content += chunk.choices[0]?.delta?.content ?? "";
      reason = chunk.choices[0]?.finish_reason ?? reason;
      usage = chunk.usage ?? usage;
    }
    assert.equal(content, whole.choices[0].message.content);
    assert.equal(reason, whole.choices[0].finish_reason);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async stream_helper() {
    const stream = client.chat.completions.stream(greedy);
    const final = await stream.finalChatCompletion();
    const whole = await client.chat.completions.create(greedy);
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  },

  async an_abandoned_stream_leaves_the_server_well() {
    const stream = await client.chat.completions.create({ ...greedy, max_tokens: 512, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) break;
    }
    stream.controller.abort();
    assert.equal((await fetch(`${root}/health`)).status, 200);
    assert.ok((await client.chat.completions.create(greedy)).choices[0].message.content);
  },

  async logprobs() {
    const answer = await client.chat.completions.create({ ...greedy, logprobs: true, top_logprobs: 2 });
    const { content } = answer.choices[0].logprobs;
    const bytes = content.flatMap((token) => token.bytes);
    assert.equal(Buffer.from(bytes).toString("utf8"), answer.choices[0].message.content);
    for (const token of content) {
      assert.equal(token.top_logprobs.length, 2);
      assert.equal(token.top_logprobs[0].logprob, token.logprob);
    }
  },

  async schema() {
    const schema = {
      type: "object",
      properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer", minimum: 0, maximum: 30 } },
      required: ["name", "age"],
      additionalProperties: false,
    };
    const answer = await client.chat.completions.create({
      ...greedy,
      max_tokens: 96,
      response_format: { type: "json_schema", json_schema: { name: "cat", schema, strict: true } },
    });
    assert.equal(answer.choices[0].finish_reason, "stop");
    const cat = JSON.parse(answer.choices[0].message.content);
    assert.deepEqual(Object.keys(cat).sort(), ["age", "name"]);
    assert.equal(typeof cat.name, "string");
    assert.ok(Number.isInteger(cat.age));
  },

  async completions() {
    const answer = await client.completions.create({ model, prompt: ["One, two,", "Red, green,"], max_tokens: 6 });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
    let streamed = "";
    const asked = { model, prompt: "One, two,", max_tokens: 6, temperature: 0 };
    for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
      streamed += chunk.choices[0]?.text ?? "";
    }
    assert.equal(streamed, (await client.completions.create(asked)).choices[0].text);
  },

  async errors() {
    const bad = client.chat.completions.create({ ...greedy, temperature: "hot" });
    await assert.rejects(bad, (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, `${error}`);
      assert.equal(error.param, "temperature");
      assert.equal(error.type, "invalid_request_error");
      return true;
    });
    const missing = client.chat.completions.create({ ...greedy, model: "no-such-model" });
    await assert.rejects(missing, (error) => error instanceof OpenAI.NotFoundError);
    if (values["api-key"]) {
      const stranger = new OpenAI({ baseURL: `${root}/v1`, apiKey: "wrong", maxRetries: 0 });
      await assert.rejects(stranger.models.list(), (error) => error instanceof OpenAI.AuthenticationError);
    }
  },
};

if (values.tools) {
  checks.tools = async () => {
    const add = {
      type: "function",
      function: {
        name: "add_numbers",
        description: "The sum of two integers.",
        parameters: {
          type: "object",
          properties: { a: { type: "integer" }, b: { type: "integer" } },
          required: ["a", "b"],
          additionalProperties: false,
        },
      },
    };
    const asked = {
      ...greedy,
      messages: [{ role: "user", content: "What is 17 plus 25? Use the tool." }],
      tools: [add],
      tool_choice: "required",
      parallel_tool_calls: false,
      max_tokens: 128,
    };
    const { message, finish_reason } = (await client.chat.completions.create(asked)).choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.tool_calls.length, 1);
    const given = JSON.parse(message.tool_calls[0].function.arguments);
    assert.ok(Number.isInteger(given.a) && Number.isInteger(given.b), JSON.stringify(given));

    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    const call = final.choices[0].message.tool_calls[0];
    assert.equal(call.function.arguments, message.tool_calls[0].function.arguments);

    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "42" };
    const after = await client.chat.completions.create({
      ...asked,
      messages: [...asked.messages, message, result],
      tool_choice: "none",
    });
    assert.ok(after.choices[0].message.content);
  };
}

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error?.stack?.split("\n").slice(0, 8).join("\n    ") ?? error}`);
  }
}
const ran = Object.keys(checks).length;
console.log(`${ran - failed} of ${ran} checks hold`);
process.exit(failed ? 1 : 0);
