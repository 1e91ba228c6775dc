// The Vercel AI SDK, with its base URL and key changed only: by its default, the responses API, and by `.chat()`.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY });
const prompt = "What is the weather in Paris?";

let cities = [];
const getWeather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => cities.push(city) && `22 °C in ${city}`,
});
const tokens = ([calling, answering]) => calling.usage.totalTokens + answering.usage.totalTokens;
const conversation = { prompt, tools: { get_weather: getWeather }, stopWhen: isStepCount(5) };

for (const model of [openai("gpt-4.1-mini"), openai("gpt-5-mini"), openai.chat("gpt-4.1-mini")]) {
  cities = [];
  const whole = await generateText({ model, ...conversation });
  assert.equal(whole.steps.length, 2);
  assert.equal(whole.steps[0].toolResults[0].output, "22 °C in Paris");
  assert.match(whole.text, /You asked/);
  assert.ok(tokens(whole.steps) > 0);
  assert.equal(whole.usage.totalTokens, tokens(whole.steps));

  const streamed = streamText({ model, ...conversation });
  let text = "";
  for await (const delta of streamed.textStream) text += delta;
  assert.equal(text, whole.text);
  assert.equal((await streamed.usage).totalTokens, tokens(await streamed.steps));
  assert.deepEqual(cities, ["Paris", "Paris"]);
}
