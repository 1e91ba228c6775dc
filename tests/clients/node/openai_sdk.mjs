// The official Node SDK, with its base URL and key changed only.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const [soundFile] = process.argv.slice(2);
const baseURL = process.env.BASE_URL;
const client = new OpenAI({ baseURL, apiKey: process.env.KEY });
const model = "gpt-4o-mini";

const question = { role: "user", content: "What is the weather in Paris?" };
const getWeather = {
  name: "get_weather",
  description: "The weather of a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

// --- chat completions

const plain = await client.chat.completions.create({ model, messages: [{ role: "user", content: "Grüß Gott ✓" }] });
assert.match(plain.choices[0].message.content, /Grüß Gott ✓/);
assert.ok(plain.usage.total_tokens > 0);
assert.ok(plain._request_id);

const tools = [{ type: "function", function: getWeather }];
const asked = await client.chat.completions.create({ model, messages: [question], tools });
const [toolCall] = asked.choices[0].message.tool_calls;
assert.deepEqual(JSON.parse(toolCall.function.arguments), { city: "Paris" });
const told = { role: "tool", tool_call_id: toolCall.id, content: "22 °C" };
const answered = await client.chat.completions.create({
  model,
  messages: [question, asked.choices[0].message, told],
  tools,
});
assert.equal(answered.choices[0].finish_reason, "stop");

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages: [question], stream: true })) {
  assert.ok(!("usage" in chunk)); // it did not ask for it
  text += chunk.choices[0].delta.content ?? "";
}
assert.match(text, /What is the weather in Paris\?/);

let deltas = "";
const helper = client.chat.completions
  .stream({ model, messages: [question], stream_options: { include_usage: true } })
  .on("content", (delta) => (deltas += delta));
const final = await helper.finalChatCompletion();
assert.equal(final.choices[0].message.content, deltas);
assert.ok(final.usage.total_tokens > 0);

const cities = [];
const runner = client.chat.completions.runTools({
  model,
  stream: true,
  messages: [question],
  tools: [
    {
      type: "function",
      function: { ...getWeather, parse: JSON.parse, function: ({ city }) => cities.push(city) && "22 °C" },
    },
  ],
});
assert.ok(await runner.finalContent());
assert.deepEqual(cities, ["Paris"]);

// --- responses

const response = await client.responses.create({ model, input: "Grüß Gott ✓" });
assert.match(response.output_text, /Grüß Gott ✓/);

const events = [];
for await (const event of await client.responses.create({ model, input: "hi", stream: true })) events.push(event);
assert.equal(events[0].type, "response.created");
assert.equal(events.at(-1).type, "response.completed");
assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);

const streamed = await client.responses.stream({ model, input: "hi" }).finalResponse();
assert.match(streamed.output_text, /hi/);

const functions = [{ type: "function", strict: false, ...getWeather }];
const calling = await client.responses.create({ model, input: [question], tools: functions });
const functionCall = calling.output.find((item) => item.type === "function_call");
assert.deepEqual(JSON.parse(functionCall.arguments), { city: "Paris" });
const output = { type: "function_call_output", call_id: functionCall.call_id, output: "22 °C" };
const concluded = await client.responses.create({
  model,
  previous_response_id: calling.id,
  input: [output],
  tools: functions,
});
assert.ok(concluded.output_text);

// --- the others

const embeddings = await client.embeddings.create({ model: "text-embedding-3-small", input: ["one", "two"] });
assert.deepEqual(embeddings.data.map(({ embedding }) => embedding.length), [1536, 1536]);

// The file is the form's first field, `model` comes after it.
const heard = await client.audio.transcriptions.create({
  file: createReadStream(soundFile),
  model: "gpt-4o-mini-transcribe",
});
assert.match(heard.text, /transcription of the audio file/);

// --- what is refused, and what is left

const stranger = new OpenAI({ baseURL, apiKey: "wrong" });
await assert.rejects(stranger.chat.completions.create({ model, messages: [question] }), (error) => {
  assert.ok(error instanceof OpenAI.AuthenticationError);
  return error.status === 401 && error.code === "invalid_key";
});

await assert.rejects(client.files.list(), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError);
  assert.match(error.message, /\/v1\/files is closed/);
  return error.status === 404;
});

await assert.rejects(client.chat.completions.create({ model: "gpt-nope", messages: [question] }), (error) => {
  assert.ok(error instanceof OpenAI.NotFoundError);
  return error.code === "model_not_found"; // upstream's own words
});

// The simulator stops after two events, so this ends only if the abort does it.
const endless = await client.chat.completions.create({ model: "fault:gate-stream", messages: [question], stream: true });
let seen = 0;
for await (const _ of endless) {
  seen += 1;
  endless.controller.abort();
}
assert.equal(seen, 1);
